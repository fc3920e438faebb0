"""The record that every data source yields, and the interface of a source.

A source knows where pictures and questions come from. It knows nothing of encoders, caches or
training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from frozen_vqa.cache.large.lists import LongList
from frozen_vqa.pipeline.sources.pictures.stored import StoredPicture

Id = int | str
"""Question and image ids: integers in the official data sets, often strings elsewhere."""

Picture = Path | bytes | Image.Image | StoredPicture
"""A picture as a source has it: a file here or at a URL, the bytes of one, or pixels."""


@dataclass(frozen=True, slots=True)
class VqaExample:
    """One question about one picture.

    Attributes:
        question_id: Unique within its split.
        image_id: Key of the picture; one id means one picture in all splits of a source.
        question: The text as its author wrote it.
        answers: All given answers as written; ten in VQAv2, one in many sets, none on a test split.
        question_type: For the tables, such as "what color is"; "" if the set has none.
        answer_type: "yes/no", "number" or "other" in VQAv2; "" if the set has none.
        groups: Further groups for the tables, such as {"modality": "CT"}.
        choices: The texts to choose from; empty if the question is open.
        right_choice: The number of the right one, from 0; None if it is not known.
        more_images: The pictures after the first, in their order, if a question has several.
    """

    question_id: Id
    image_id: Id
    question: str
    answers: tuple[str, ...]
    question_type: str = ""
    answer_type: str = ""
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)
    choices: tuple[str, ...] = ()
    right_choice: int | None = None
    more_images: tuple[Id, ...] = ()

    @property
    def choice_texts(self) -> tuple[str, ...]:
        """What an encoder reads of each choice: the question and then the choice.

        So a choice shares the question's hidden states, and a cache keeps those of its own tokens.
        """
        return tuple(f"{self.question} {choice}" for choice in self.choices)

    @property
    def texts(self) -> tuple[str, ...]:
        """All that an encoder reads."""
        return (self.question, *self.choice_texts)

    @property
    def images(self) -> tuple[Id, ...]:
        """All its pictures, in their order."""
        return (self.image_id, *self.more_images)


def question_list() -> LongList[VqaExample]:
    """Return a list for the questions of a split, which lies in a file if they are many."""
    return LongList(pack=fields_of, unpack=lambda found: VqaExample(*found))


def fields_of(one: VqaExample) -> tuple[Any, ...]:
    """Return the fields of a question as plain values; texts that many questions share are one."""
    return (
        one.question_id,
        one.image_id,
        one.question,
        tuple(map(intern, one.answers)),
        intern(one.question_type),
        intern(one.answer_type),
        {intern(name): intern(group) for name, group in one.groups.items()},
        one.choices,
        one.right_choice,
        one.more_images,
    )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A question that cannot be used."""

    question_id: Id | None  # None if it cannot be read
    where: str  # its place, such as "/data/train.jsonl:7"
    reason: str  # the fault and the need, in a few words that do not repeat the place


@dataclass(frozen=True)
class Form:
    """How a split is written, for people.

    Attributes:
        kind: Such as "CSV with semicolons, UTF-8".
        place: Its file; "" where there is none.
        columns: The column of each field.
        ignored: Other columns.
    """

    kind: str
    place: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    ignored: Sequence[str] = ()


class Source(Protocol):
    """Pictures and questions of one data set.

    A source of your own may inherit from it, and then needs only `examples` and `picture`. One that
    has a metric of its own names it in an attribute `metric`, such as "vizwiz".
    """

    def examples(self, split: str) -> Sequence[VqaExample]:
        """Return the usable questions of `split` in the order of the data set.

        Raises:
            SourceError: if the split does not exist, a file or column is missing or cannot be
                read as a whole, or no question can be used.
        """
        ...

    def left_out(self, split: str) -> Sequence[LeftOut]:
        """Return the questions that `examples(split)`, called before, could not use."""
        return ()

    def picture(self, image_id: Id) -> Picture:
        """Return the picture of an example that `examples` has returned."""
        ...

    def where(self, image_id: Id) -> str:
        """Return the path or row of a picture, for messages."""
        return f"picture {image_id!r}"


@runtime_checkable
class DescribedSource(Source, Protocol):
    """A source that can say what it has; all of ours can, and one's own may."""

    def splits(self) -> Sequence[str]:
        """Return the names of the splits; none if any name would do."""
        ...

    def form(self, split: str) -> Form:
        """Return how a split is written that `examples` has read before."""
        ...

    def cure(self, image_id: Id) -> str:
        """Return what to do about a picture that is missing; "" if nothing is known."""
        ...
