"""A-OKVQA 1.0: four choices and ten direct answers about pictures of COCO 2017.

ROOT/aokvqa_v1p0_val.json       [{"question_id", "image_id", "choices", "direct_answers", …}]
ROOT/val2017/000000000042.jpg
"""

from collections.abc import Mapping
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, coco_path, flag


class AokvqaSource(OfficialSource):
    """The group "difficult" has the questions that direct answers are not scored on."""

    name, title, metric = "aokvqa", "A-OKVQA", "aokvqa"
    get_it = "https://github.com/allenai/aokvqa"
    files = {split: (f"aokvqa_v1p0_{split}.json",) for split in ("train", "val", "test")}
    keys = {
        "question_id": "question_id",
        "image_id": "image_id",
        "question": "question",
        "answers": "direct_answers",
        "choices": "choices",
        "right_choice": "correct_choice_idx",
    }

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        groups = flag(entry, "difficult_direct_answer", "difficult")
        return super().fields(split, entry) | {"groups": groups}

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return coco_path(f"{split}2017", entry["image_id"], name="")
