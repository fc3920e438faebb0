"""NLVR2: is a sentence true of two pictures? JSON lines, in spite of the name.

ROOT/dev.json                                   {"identifier", "sentence", "label"}
ROOT/images/train/67/train-10171-0-img0.png     67 is the key `directory` of the record
ROOT/dev/dev-42-1-img0.png                      and -img1.png, the picture on the right
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, lines, name_in, spelled
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.validation import UnusableError, shown


class Nlvr2Source(OfficialSource):
    """The answer is "True" or "False"; "val" is the file dev.json, and "test" is test1.json."""

    name, title, metric = "nlvr2", "NLVR2", "nlvr2"
    get_it = "https://github.com/lil-lab/nlvr"
    files = {"train": ("train.json",), "val": ("dev.json",), "test": ("test1.json",)}
    files |= {"test2": ("test2.json",)}
    keys = {
        "question_id": "identifier",
        "image_id": "identifier",
        "question": "sentence",
        "answers": "label",
    }

    def records(self, split: str, file: Path) -> Iterable[Record]:
        return lines(file)

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        left, right = (f"{_pair(entry)}-img{side}" for side in (0, 1))
        self._pictures.setdefault(right, self._picture(self.path(split, entry, 1)))
        return super().fields(split, entry) | {"image_id": left, "more_images": [right]}

    def path(self, split: str, entry: Mapping[str, Any], side: int = 0) -> str:
        folder = Path(self.files[split][0]).stem
        if split == "train":
            folder = f"images/train/{spelled(entry.get('directory'))}"
        return f"{folder}/{_pair(entry)}-img{side}.png"


def _pair(entry: Mapping[str, Any]) -> str:
    """Return "dev-42-1" of "dev-42-1-0", whose last part counts the sentences about a pair."""
    pair = name_in(entry, "identifier").rpartition("-")[0]
    if not pair:
        raise UnusableError(f"identifier is {shown(entry['identifier'])}; dev-42-1-0 is needed")
    return pair
