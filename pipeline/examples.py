"""The one record that every data source yields, and the contract of a source.

A source knows where pictures and questions come from. It does not know about encoders, caches
or training.
"""

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


class Source(Protocol):
    """Pictures and questions of one data set."""

    def examples(self, split: str) -> list[VqaExample]:
        """Return the questions of `split` in the order of the data set.

        Raises:
            SourceError: if the split does not exist or its files are damaged.
        """
        ...

    def picture(self, image_id: Id) -> Picture:
        """Return the picture of an example that `examples` has returned."""
        ...

    def where(self, image_id: Id) -> str:
        """Return the path or row of a picture, for messages."""
        ...
