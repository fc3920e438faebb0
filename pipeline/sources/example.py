"""The one record that every data source yields, and the contract of a source.

A source knows where pictures and questions come from. It does not know about encoders, caches
or training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

Id = int | str
"""Question and image ids: integers in the official data sets, often strings elsewhere."""

Picture = Path | bytes | Image.Image
"""Where a picture comes from: a file, the bytes of one, or pixels drawn a moment ago."""


@dataclass(frozen=True, slots=True)
class VqaExample:
    """One question about one picture.

    Attributes:
        question_id: Unique within its split.
        image_id: Key of the picture; one id means one picture in all splits of a source.
        question: The text as its author wrote it.
        answers: All given answers as written; ten in VQAv2, one in many sets, none on a test split.
        question_type: For the tables, such as "what color is"; "" where the set has none.
        answer_type: "yes/no", "number" or "other" in VQAv2; "" where the set has none.
    """

    question_id: Id
    image_id: Id
    question: str
    answers: tuple[str, ...]
    question_type: str = ""
    answer_type: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A question that cannot be used.

    Attributes:
        question_id: None where it has none, or none that can be read.
        where: Its place, such as "/data/train.jsonl:7", for messages.
        reason: What was found and what was needed, in a few words that do not repeat the place.
    """

    question_id: Id | None
    where: str
    reason: str


class Source(Protocol):
    """Pictures and questions of one data set."""

    def examples(self, split: str) -> list[VqaExample]:
        """Return the questions of `split` that can be used, in the order of the data set.

        Raises:
            SourceError: if the split does not exist, a file cannot be read as a whole, or no
                question can be used.
        """
        ...

    def left_out(self, split: str) -> Sequence[LeftOut]:
        """Return what `examples(split)`, called before, could not use."""
        ...

    def picture(self, image_id: Id) -> Picture:
        """Return the picture of an example that `examples` has returned."""
        ...

    def where(self, image_id: Id) -> str:
        """Return the path or row of a picture, for messages."""
        ...
