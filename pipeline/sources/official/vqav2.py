"""VQAv2 and OK-VQA, which has its form.

    ROOT/v2_OpenEnded_mscoco_train2014_questions.json    {"questions": [{"question_id", …}, …]}
    ROOT/v2_mscoco_train2014_annotations.json            {"annotations": [{"question_id", …}, …]}
    ROOT/train2014/COCO_train2014_000000000009.jpg

The formats are those of https://visualqa.org/download.html. `pipeline/metrics/official_files.py`
reads the same files for a score, where every entry must be right.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.sources.official.joined import JoinedSource
from frozen_vqa.pipeline.sources.official.reader import coco_path


class Vqav2Source(JoinedSource):
    """VQAv2 as its authors publish it; `left_out` lists questions first, then annotations."""

    name, title, metric = "vqav2", "VQAv2", "2021"
    get_it = "https://visualqa.org/download.html"
    blanks = False
    prefix: ClassVar[str] = "v2_"
    answered: ClassVar[Mapping[str, str]] = {"train": "train2014", "val": "val2014"}
    names = {**answered, "test": "test2015", "test-dev": "test-dev2015"}
    files = {
        split: (f"v2_OpenEnded_mscoco_{name}_questions.json",) for split, name in names.items()
    }

    def annotation_file(self, split: str) -> Path | None:
        if split not in self.answered:
            return None
        name = f"{self.prefix}mscoco_{self.answered[split]}_annotations.json"
        file = path_in(self._root, name)
        if not file.is_file():
            raise self.missing(split, [name], "It has the answers.")
        return file

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return coco_path(self.answered.get(split, "test2015"), entry["image_id"])


class OkVqaSource(Vqav2Source):
    """OK-VQA; its `val2014` is what papers call the test set."""

    name, title, prefix = "okvqa", "OK-VQA", ""
    get_it = "https://okvqa.allenai.org/download.html"
    blanks = True
    files = {
        split: (f"OpenEnded_mscoco_{name}_questions.json",)
        for split, name in Vqav2Source.answered.items()
    }
