"""Visual7W, telling: one right answer and three wrong ones.

ROOT/dataset_v7w_telling.json       {"images": [{"filename", "split", "qa_pairs": […]}]}
ROOT/images/v7w_42.jpg
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from frozen_vqa.pipeline.sources.official.reader import OfficialSource, listed, name_in
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.validation import UnusableError, list_of, shown


class Visual7wSource(OfficialSource):
    """The file has the wrong choices; a digest of the id says which place the right one gets."""

    name, title, metric = "visual7w", "Visual7W", "visual7w"
    get_it = "https://github.com/yukezhu/visual7w-toolkit"
    files = dict.fromkeys(("train", "val", "test"), ("dataset_v7w_telling.json", "dataset.json"))
    keys = {
        "question_id": "qa_id",
        "image_id": "image_id",
        "question": "question",
        "answers": "answer",
        "question_type": "type",
    }

    def records(self, split: str, file: Path) -> Iterable[Record]:
        for image in listed(file, "images"):
            found = image.found
            if not isinstance(found, UnusableError):
                if found.get("split") != split:
                    continue
                pairs = found.get("qa_pairs")
                if isinstance(pairs, list) and all(isinstance(pair, dict) for pair in pairs):
                    for pair in pairs:
                        where = f"{image.where}, {shown(pair.get('qa_id'))}"
                        entry = {**pair, "filename": found.get("filename")}
                        yield Record(image.number, where, entry)
                    continue
                found = UnusableError("its qa_pairs are no list of objects")
            yield Record(image.number, image.where, found)

    def fields(self, split: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        choices = [*list_of(entry.get("multiple_choices"), "multiple_choices")]
        place = xxhash.xxh3_64_intdigest(f"visual7w {entry['qa_id']}".encode()) % (len(choices) + 1)
        choices.insert(place, entry.get("answer"))
        return super().fields(split, entry) | {"choices": choices, "right_choice": place}

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        return f"images/{name_in(entry, 'filename')}"
