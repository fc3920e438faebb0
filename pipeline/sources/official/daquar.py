"""DAQUAR: three lines a question, about frames of NYU Depth v2.

ROOT/qa.894.raw.train.format_triple     what is on the desk in the image42 ?
                                        lamp, book
                                        image42
ROOT/nyu_depth_images/image42.png
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.official.reader import OfficialSource
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.strict_json import LARGEST
from frozen_vqa.pipeline.sources.validation import UnusableError

PICTURES = "nyu_depth_images"


class DaquarSource(OfficialSource):
    """The full set, and that of 37 classes as "train-37" and "test-37".

    A question is known by its place from 0 on. What stands between commas is an answer each.
    """

    name, title, metric = "daquar", "DAQUAR", "daquar"
    get_it = "the pages of its authors (Malinowski and Fritz, 2014)"
    files = {
        f"{split}{mark}": (f"qa.{classes}.raw.{split}.format_triple",)
        for mark, classes in (("", 894), ("-37", 37))
        for split in ("train", "test")
    }
    keys = {name: name for name in ("question_id", "image_id", "question", "answers")}

    def records(self, split: str, file: Path) -> Iterable[Record]:
        try:
            lines = read_file(file, most=LARGEST).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{file}: reading failed ({error}). Copy the file again.") from error
        triple: list[str] = []
        number = 0
        for line, text in enumerate(map(str.strip, lines), 1):
            triple += [text] if text else []
            if re.fullmatch(r"image\d+", text):  # so a line that is missing costs one question
                yield Record(number, f"{file}:{line}", _entry(number, triple))
                triple, number = [], number + 1

    def path(self, split: str, entry: Mapping[str, Any]) -> str:
        folder = f"{PICTURES}/" if (self._image_root / PICTURES).is_dir() else ""
        return f"{folder}{entry['image_id']}.png"


def _entry(number: int, triple: list[str]) -> Mapping[str, Any] | UnusableError:
    if len(triple) != 3:
        return UnusableError(
            f"found {len(triple)} lines up to that of the picture; a question, its answers and the "
            "picture are needed"
        )
    question, answers, image = triple
    split = [answer.strip() for answer in answers.split(",") if answer.strip()]
    return {"question_id": number, "image_id": image, "question": question, "answers": split}
