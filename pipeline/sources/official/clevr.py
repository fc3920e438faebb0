"""CLEVR 1.0, and questions that its generator has made.

ROOT/questions/CLEVR_val_questions.json     {"questions": [{"image_filename", "program", …}]}
ROOT/images/val/CLEVR_val_000042.png
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import (
    OfficialSource,
    listed,
    name_in,
    spelled,
)
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.validation import UnusableError, list_of


class ClevrSource(OfficialSource):
    """The type of a question is the last function of its program, such as "query_color"."""

    name, title, metric = "clevr", "CLEVR", "clevr"
    get_it = "https://cs.stanford.edu/people/jcjohns/clevr"
    unpacked = "CLEVR_v1.0"
    files = {
        split: (f"questions/CLEVR_{split}_questions.json",) for split in ("train", "val", "test")
    }
    keys = {
        "question_id": "question_index",
        "image_id": "image_filename",
        "question": "question",
        "answers": "answer",
    }

    def records(self, split: str, file: Path) -> Iterable[Record]:
        return listed(file, "questions")

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        found = super().fields(split, entry)
        steps = list_of(entry.get("program"), "program")
        if not all(isinstance(step, dict) for step in steps):
            raise UnusableError("a step of the program is no object")
        last = (steps[-1].get("function") or steps[-1].get("type")) if steps else None
        return found | {"answers": spelled(found["answers"]), "question_type": last}

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return f"images/{split}/{name_in(entry, 'image_filename')}"
