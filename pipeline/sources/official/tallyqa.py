"""TallyQA: how many; its pictures are those of COCO 2014 and Visual Genome.

ROOT/test.json      [{"question_id", "image", "image_id", "question", "answer", "issimple"}]
ROOT/VG_100K_2/2400042.jpg, ROOT/val2014/COCO_val2014_000000000042.jpg
"""

from collections.abc import Mapping
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, flag, name_in, spelled


class TallyQaSource(OfficialSource):
    """Groups are "source", such as "amt", and on the test split "simple"."""

    name, title, metric = "tallyqa", "TallyQA", "tallyqa"
    get_it = "https://github.com/manoja328/TallyQA_dataset"
    files = {split: (f"{split}.json",) for split in ("train", "test")}
    keys = {name: name for name in ("question_id", "image_id", "question")}
    groups = {"source": "data_source"}

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        found = super().fields(split, entry)
        groups = found["groups"] | flag(entry, "issimple", "simple")
        return found | {"answers": spelled(entry.get("answer")), "groups": groups}

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return name_in(entry, "image")  # a path; image_id has a 9 in front where it is of VG
