"""TextVQA 0.5.1; the pictures of its validation split lie among those of the training split.

ROOT/TextVQA_0.5.1_val.json     {"data": [{"question_id", "image_id", "question", "answers"}]}
ROOT/train_images/0054c91397f2fe05.jpg, ROOT/test_images/…
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, listed, name_in
from frozen_vqa.pipeline.sources.own.tables import Record


class TextVqaSource(OfficialSource):
    """Ids of pictures are texts."""

    name, title, metric = "textvqa", "TextVQA", "textvqa"
    get_it = "https://textvqa.org/dataset"
    files = {split: (f"TextVQA_0.5.1_{split}.json",) for split in ("train", "val", "test")}
    keys = {name: name for name in ("question_id", "image_id", "question", "answers")}

    def records(self, split: str, file: Path) -> Iterable[Record]:
        return listed(file, "data")

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        folder = "test_images" if split == "test" else "train_images"
        return f"{folder}/{name_in(entry, 'image_id')}.jpg"
