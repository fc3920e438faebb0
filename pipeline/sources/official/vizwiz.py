"""VizWiz-VQA: the name of a picture is the key of its only question.

ROOT/Annotations/val.json       [{"image", "question", "answers", "answer_type", "answerable"}]
ROOT/val/VizWiz_val_00000042.jpg
"""

from collections.abc import Mapping
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, flag, name_in


class VizWizSource(OfficialSource):
    """The group "answerable" says whether the question can be answered."""

    name, title, metric = "vizwiz", "VizWiz-VQA", "vizwiz"
    get_it = "https://vizwiz.org/tasks-and-datasets/vqa"
    files = {
        split: (f"Annotations/{split}.json", f"annotations/{split}.json", f"{split}.json")
        for split in ("train", "val", "test")
    }
    keys = {
        "question_id": "image",
        "image_id": "image",
        "question": "question",
        "answers": "answers",
        "answer_type": "answer_type",
    }

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        return super().fields(split, entry) | {"groups": flag(entry, "answerable")}

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return f"{split}/{name_in(entry, 'image')}"
