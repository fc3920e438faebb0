"""PathVQA: questions in pickles, of which only lists, objects, texts and numbers are read.

ROOT/qas/test/test_qa.pkl           [{"image": "test_0042", "question", "answer"}]
ROOT/qas/test/test_qa.json          the same as JSON, which is taken first
ROOT/images/test/test_0042.jpg
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.official.medical.plain_pickle import read_plain_pickle
from frozen_vqa.pipeline.sources.official.reader import (
    OfficialSource,
    listed,
    name_in,
    numbered,
    spelled,
)
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.validation import UnusableError


class PathVqaSource(OfficialSource):
    """A question is known by its place from 0 on; one that is answered yes or no is CLOSED."""

    name, title, metric = "pathvqa", "PathVQA", "pathvqa"
    get_it = "https://github.com/UCSD-AI4H/PathVQA"
    unpacked = "pvqa"
    files = {
        split: tuple(
            f"{folder}{split}_qa.{ending}"
            for ending in ("json", "pkl")
            for folder in (f"qas/{split}/", "qas/", "")
        )
        for split in ("train", "val", "test")
    }
    keys = {"question_id": "place", "image_id": "image", "question": "question"}

    def records(self, split: str, file: Path) -> Iterable[Record]:
        entries = read_plain_pickle(file) if file.suffix == ".pkl" else None
        for record in listed(file) if entries is None else numbered(file, entries):
            if isinstance(record.found, UnusableError):
                yield record
            else:
                yield Record(record.number, record.where, {**record.found, "place": record.number})

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        answer = spelled(entry.get("answer"))
        kind = None if answer is None else "CLOSED" if answer in ("yes", "no") else "OPEN"
        return super().fields(split, entry) | {"answers": answer, "answer_type": kind}

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return f"images/{split}/{name_in(entry, 'image')}.jpg"
