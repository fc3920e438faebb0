"""VQA-RAD: one file, whose phrase types say what is for testing.

    ROOT/VQA_RAD Dataset Public.json        [{"qid", "image_name", "question", "answer", …}]
    ROOT/VQA_RAD Image Folder/synpic42.jpg

Nearly all pictures of the test split are in the training split too: it measures questions.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, listed, name_in, spelled
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.validation import UnusableError


class VqaRadSource(OfficialSource):
    """Answers that are numbers become text, and blanks around an answer type are dropped."""

    name, title, metric = "vqa-rad", "VQA-RAD", "vqa-rad"
    get_it = "https://osf.io/89kps"
    files = dict.fromkeys(("train", "test"), ("VQA_RAD Dataset Public.json",))
    keys = {
        "question_id": "qid",
        "image_id": "image_name",
        "question": "question",
        "question_type": "question_type",
    }
    groups = {"organ": "image_organ", "phrase": "phrase_type"}

    def records(self, split: str, file: Path) -> Iterable[Record]:
        for record in listed(file):
            is_test = str(_get(record, "phrase_type")).startswith("test")
            if is_test == (split == "test"):
                yield record

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        kind = entry.get("answer_type")
        return super().fields(split, entry) | {
            "answers": spelled(entry.get("answer")),
            "answer_type": kind.strip() if isinstance(kind, str) else kind,
        }

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return f"VQA_RAD Image Folder/{name_in(entry, 'image_name')}"


def _get(record: Record, key: str) -> object:
    return None if isinstance(record.found, UnusableError) else record.found.get(key)
