"""GQA 1.2: objects by question id, of which the largest split has ten files of several GB in all.

ROOT/val_balanced_questions.json                        {"05515938": {"imageId", …}, …}
ROOT/train_all_questions/train_all_questions_0.json     and so on, up to 9
ROOT/images/n42.jpg
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.sources.official.reader import (
    OfficialSource,
    flag,
    keyed,
    name_in,
    part_of,
)
from frozen_vqa.pipeline.sources.own.tables import Record

_SPLITS = {"train": "train", "val": "val", "test-dev": "testdev", "test": "test"}
_SPLITS |= {"challenge": "challenge"}
CHUNKS = 10


class GqaSource(OfficialSource):
    """The balanced questions, and all of them in splits such as "val-all".

    Questions of "test" and "challenge" have no answers and no types.
    """

    name, title, metric = "gqa", "GQA", "gqa"
    get_it = "https://cs.stanford.edu/people/dorarad/gqa/download.html"
    files = {
        **{split: (f"{name}_balanced_questions.json",) for split, name in _SPLITS.items()},
        **{f"{split}-all": (f"{name}_all_questions.json",) for split, name in _SPLITS.items()},
        "train-all": ("train_all_questions",),
        "submission": ("submission_all_questions.json",),
    }
    keys = {"question_id": "id", "image_id": "imageId", "question": "question", "answers": "answer"}

    def records(self, split: str, file: Path) -> Iterable[Record]:
        if not file.is_dir():
            return keyed(file, "id")
        chunks = (path_in(file, f"{file.name}_{number}.json") for number in range(CHUNKS))
        return (record for chunk in chunks for record in keyed(chunk, "id"))

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        types, groups = part_of(entry, "types"), part_of(entry, "groups")
        structural = types.get("structural")
        return super().fields(split, entry) | {
            "question_type": types.get("detailed"),
            "answer_type": structural and ("open" if structural == "query" else "binary"),
            "groups": flag(entry, "isBalanced", "balanced")
            | {"structural": structural, "semantic": types.get("semantic")}
            | {"global": groups.get("global")},
        }

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return f"images/{name_in(entry, 'imageId')}.jpg"
