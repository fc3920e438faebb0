"""Splits: their names, and their records as usable questions and those that are left out.

All data sets share these rules: the first usable question of an id is kept, one image id means one
picture in all splits, and a split needs at least one usable question.
"""

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from frozen_vqa.cache.large.dicts import LargeDict
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Id, LeftOut, Picture, VqaExample, question_list
from frozen_vqa.pipeline.sources.lost_pictures import find_cure
from frozen_vqa.pipeline.sources.pictures.stored import StoredPicture, is_taken
from frozen_vqa.pipeline.sources.validation import UnknownFormError, UnusableError, shown

_SPLIT_NAMES = (
    ("train", "training"),
    ("val", "validation", "valid", "dev"),
    ("test-dev", "testdev", "test_dev"),
    ("test", "testing"),
)

MOST_LEFT_OUT = 200_000
"""Questions of a split that may be unusable; more of them are a fault of the whole."""


class Selection:
    """The usable questions of one split in their order, and the unusable ones with their reasons.

    Args:
        unit: The format's name for a record: "line", "entry" or "row".
        pictures: The picture of each image id in all splits so far; usable questions add theirs.
        hint: Advice behind the message of a repeated question id.
    """

    def __init__(
        self, unit: str, pictures: LargeDict[Id, str] | dict[Id, str], hint: str = ""
    ) -> None:
        self._unit, self._pictures, self._hint = unit, pictures, hint
        self._examples = question_list()
        self.left_out: list[LeftOut] = []
        self.numbers = LargeDict[Id, int]()  # of the records of usable questions, by question id
        self._unanswered = LargeDict[Id, str]()  # the places of those without an answer

    @property
    def examples(self) -> Sequence[VqaExample]:
        """The usable questions."""
        return self._examples.short

    def add(
        self,
        number: int,
        where: str,
        question_id: Id | None,
        make: Callable[[], tuple[VqaExample, str]],
    ) -> None:
        """Add one record, whose question id is None if it cannot be read.

        `make` returns the question and the picture that its image id means, or raises
        `UnusableError`. Raise `SourceError` if the form of its answers is not known.
        """
        try:
            example, picture = make()
            self._require_new(example, picture)
        except UnknownFormError as error:
            raise SourceError(
                f"{error.where or where}: {error}. Write the answers of the whole set so; leave "
                "them out where there are none."
            ) from None
        except UnusableError as error:
            self.left_out.append(LeftOut(question_id, error.where or where, str(error)))
            require_few_left_out(len(self.left_out), error.where or where, str(error))
        else:
            self.numbers.setdefault(example.question_id, number)
            if not example.answers:
                self._unanswered.setdefault(example.question_id, where)
            self._pictures.setdefault(example.image_id, picture)
            self._examples.append(example)

    def _require_new(self, example: VqaExample, picture: str) -> None:
        if example.question_id in self.numbers:
            raise UnusableError(
                f"question_id {shown(example.question_id)} was used before, in {self._unit} "
                f"{self.numbers[example.question_id]}; the first is kept{self._hint}"
            )
        before = self._pictures.get(example.image_id, picture)
        if before != picture:
            raise UnusableError(
                f"image_id {shown(example.image_id)} is {picture} here, but was {before} before; "
                "one id must mean one picture in all splits"
            )

    def finish(self, place: object) -> None:
        """Leave out questions without an answer, unless none of the split has one.

        They could be used neither for training nor for a score. Raise a `SourceError` with the
        first fault if no question can be used.
        """
        if 0 < len(self._unanswered) < len(self.examples):
            reason = "it has no answer, and other questions of its split have; write one"
            faults = (LeftOut(one, where, reason) for one, where in self._unanswered.items())
            self.left_out.extend(faults)
            every, self._examples = self._examples, question_list()
            self._examples.extend(example for example in every if example.answers)
        if not self.examples and not self.left_out:
            raise SourceError(f"{place}: there are no questions; at least one is needed.")
        if not self.examples:
            first = self.left_out[0]
            stop = "" if first.reason.endswith("?") else "."  # "did you mean 'answer'?"
            raise SourceError(
                f"{place}: none of its {len(self.left_out):,} questions can be used; the first is "
                f"{first.where}: {first.reason}{stop} Mend them, or check that this is the "
                "right data set."
            )


def require_few_left_out(count: int, where: object, reason: str) -> None:
    """Raise `SourceError` if so many questions cannot be used that something else is wrong."""
    if count > MOST_LEFT_OUT:
        raise SourceError(
            f"more than {MOST_LEFT_OUT:,} questions cannot be used, the last at {where}: {reason}. "
            "Mend them, or leave them out of the data set."
        )


class FileSource:
    """The part that sources share whose pictures are files.

    Args:
        root: The folder of the data.
        images: The folder that the paths of pictures begin from, if it is another.
    """

    def __init__(self, root: Path, images: Path | None = None) -> None:
        if images is not None and not images.is_dir():
            raise SourceError(f"--images {images}: there is no such folder. Check the path.")
        self._root = root
        self._image_root = root if images is None else images
        self._pictures = LargeDict[Id, str]()
        self._left_out: dict[str, list[LeftOut]] = {}

    def left_out(self, split: str) -> Sequence[LeftOut]:
        return self._left_out[split]

    def picture(self, image_id: Id) -> Picture:
        path = self._pictures[image_id]
        return StoredPicture(path) if is_taken(path) else self._image_root / path

    def where(self, image_id: Id) -> str:
        return str(self.picture(image_id))

    def cure(self, image_id: Id) -> str:
        """Return what to do about a missing picture, such as where it may be instead."""
        path = self._pictures[image_id]
        if is_taken(path):
            return "Check the spelling, and what the bucket holds."
        return find_cure(self._image_root, path)

    def _finish(self, split: str, selection: Selection, file: Path) -> Sequence[VqaExample]:
        """Return the questions of a split that has been read, and keep those left out."""
        selection.finish(file)
        self._left_out[split] = selection.left_out
        return selection.examples


def split_like(split: str, known: Collection[str]) -> str | None:
    """Return the one of `known` that `split` means: the same name, or another usual name of it.

    "val" finds "validation", and "test-dev" finds "testdev".
    """
    if split in known:
        return split
    names = next((names for names in _SPLIT_NAMES if split in names), ())
    found = [name for name in known if name in names]
    return found[0] if len(found) == 1 else None


def parquet_files(path: Path) -> dict[str, list[Path]]:
    """Return the parquet files by split, if the layout is plain; else nothing."""
    if path.is_file():
        split = split_like(split_in(path), ("train", "val", "test", "test-dev"))
        return {split_in(path) if split else "": [path]}
    files: dict[str, list[Path]] = {}
    folder = path / "data" if any((path / "data").glob("*.parquet")) else path
    for file in sorted(folder.glob("*.parquet")):
        files.setdefault(split_in(file), []).append(file)
    return files


def split_in(file: Path) -> str:
    """Return "validation" of "validation-00000-of-00068.parquet"."""
    return re.sub(r"-\d+(-of-\d+)?(-[0-9a-f]+)?$", "", file.stem)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return " Did you mean …?" with the nearest known name, or nothing."""
    near = split_like(name, known) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    return f" Did you mean {near!r}?" if near else ""
