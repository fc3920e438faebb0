"""Splits: their names, and their records as usable questions and those that are left out.

All data sets share these rules: the first usable question of an id is kept, one image id means one
picture in all splits, and a split needs at least one usable question.
"""

import csv
import difflib
import io
import mmap
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.lost_pictures import find_cure
from frozen_vqa.pipeline.sources.validation import UnknownFormError, UnusableError, shown

_SPLIT_NAMES = (
    ("train", "training"),
    ("val", "validation", "valid", "dev"),
    ("test-dev", "testdev", "test_dev"),
    ("test", "testing"),
)

MOST_LEFT_OUT = 200_000
"""Questions of a split that may be unusable; more of them are a fault of the whole."""

FREE_ROWS, FREE_BYTES, MOST_PACKED = 1_000_000, 64 << 20, 100
"""What a table's file may hold, whatever its size: rows, and bytes. Beyond these, a row needs a
byte of the file, and a byte of the file unpacks to so many at most."""

AT_ONCE, FEW = 256 << 20, 16
"""Bytes of rows that are read at once, or so few rows. A column may hold one text as long as all of
a group, and repeat it in each row."""


MOST_COLUMNS, MOST_HEADER = 10_000, 1 << 20
"""Columns of a CSV or JSON file, and bytes of the row with their names."""

_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)(?:"(\s*+:)?)?', re.DOTALL)
"""A text in JSON, whether it ends or not, so that no byte is looked at twice. A key has a colon."""


class Selection:
    """The usable questions of one split in their order, and the unusable ones with their reasons.

    Args:
        unit: The format's name for a record: "line", "entry" or "row".
        pictures: The picture of each image id in all splits so far; usable questions add theirs.
        hint: Advice behind the message of a repeated question id.
    """

    def __init__(self, unit: str, pictures: dict[Id, str], hint: str = "") -> None:
        self._unit, self._pictures, self._hint = unit, pictures, hint
        self.examples: list[VqaExample] = []
        self.left_out: list[LeftOut] = []
        self.numbers: dict[Id, int] = {}  # of the records of usable questions, by question id
        self._unanswered: dict[Id, str] = {}  # the places of those without an answer

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
            self.numbers[example.question_id] = number
            if not example.answers:
                self._unanswered[example.question_id] = where
            self._pictures[example.image_id] = picture
            self.examples.append(example)

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
            self.examples = [example for example in self.examples if example.answers]
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


def require_proportional(file: Path, rows: int, values: int, nbytes: int) -> None:
    """Raise `SourceError` if a table's file says that it holds far more than its size lets expect.

    `values` are the most of one column in one group of rows, and `nbytes` those of all, unpacked.
    """
    size = os.path.getsize(file)
    limits = {
        "rows": (rows, FREE_ROWS + size),
        "values": (values, FREE_ROWS + 4 * size),
        "bytes": (nbytes, FREE_BYTES + MOST_PACKED * size),
    }
    for what, (found, most) in limits.items():
        if found > most:
            raise SourceError(
                f"{file}: its {size:,} bytes say that they hold {found:,} {what}; the limit for a "
                f"file of this size is {most:,}. If you trust it, write it without compression."
            )


def require_small_parquet(file: Path, metadata: Any) -> None:
    """Do so for a parquet file, by its own figures."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = (group.column(i) for group in groups for i in range(group.num_columns))
    values = max((column.num_values for column in columns), default=0)
    require_proportional(
        file, metadata.num_rows, values, sum(group.total_byte_size for group in groups)
    )


def rows_at_once(size: int, metadata: Any, names: Collection[str]) -> int:
    """Return how many rows of some columns to read at once, at most `size`."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = (group.column(i) for group in groups for i in range(group.num_columns))
    asked = (one for one in columns if one.path_in_schema.partition(".")[0] in names)
    largest = max((one.total_uncompressed_size for one in asked), default=1)
    return min(size, max(FEW, AT_ONCE // max(1, largest)))


def require_unpacked(files: Iterable[Sequence[Path]], form_of: Callable[[Path], object]) -> None:
    """Raise `SourceError` for a packed file, which `datasets` would unpack to any size."""
    for file in (file for some in files for file in some):
        if os.path.isfile(file) and (form := form_of(file)):
            raise SourceError(
                f"{file}: it is packed ({form}), and may unpack to any size. Unpack it there."
            )


def require_few_names(names: Sized, where: object) -> None:
    """Raise `SourceError` if there are more columns than anybody has."""
    if len(names) > MOST_COLUMNS:
        raise SourceError(
            f"{where}: more than {MOST_COLUMNS:,} columns, or too long names or cells. Keep the "
            "columns of the questions."
        )


def require_few_columns(file: Path) -> None:
    """Do so for a CSV or JSON file that `datasets` reads, which takes 0.2 ms for each column."""
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        if delimiter := {".csv": ",", ".tsv": "\t"}.get(file.suffix):
            begin = opened.read(MOST_HEADER)
            count = _cells_in(begin, delimiter, whole=len(begin) == size)
        elif file.suffix in (".json", ".jsonl") and size:
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                count = _keys_in(data)
        else:
            return
    require_few_names(range(count), file)


def _cells_in(begin: bytes, delimiter: str, *, whole: bool) -> int:
    """Return the cells of the first two rows, of which pandas makes columns; too many if cut."""
    lines = io.StringIO(begin.decode(errors="replace"), newline="")
    try:
        rows = list(islice(csv.reader(lines, delimiter=delimiter), 2))
    except csv.Error:  # a cell is longer than csv takes
        return MOST_COLUMNS + 1
    return max(map(len, rows), default=0) if whole or lines.read(1) else MOST_COLUMNS + 1


def _keys_in(data: mmap.mmap) -> int:
    """Return how many different keys JSON has, counted until they are too many."""
    keys: set[bytes] = set()
    for found in _STRING.finditer(data):
        keys |= {found[1]} if found[2] else set()
        if len(keys) > MOST_COLUMNS:
            break
    return len(keys)


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
        self._pictures: dict[Id, str] = {}
        self._left_out: dict[str, list[LeftOut]] = {}

    def left_out(self, split: str) -> Sequence[LeftOut]:
        return self._left_out[split]

    def picture(self, image_id: Id) -> Path:
        return self._image_root / self._pictures[image_id]

    def where(self, image_id: Id) -> str:
        return str(self.picture(image_id))

    def cure(self, image_id: Id) -> str:
        """Return what to do about a missing picture, such as where it may be instead."""
        return find_cure(self._image_root, self._pictures[image_id])

    def _finish(self, split: str, selection: Selection, file: Path) -> list[VqaExample]:
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
        split = split_like(_split_in(path), ("train", "val", "test", "test-dev"))
        return {_split_in(path) if split else "": [path]}
    files: dict[str, list[Path]] = {}
    folder = path / "data" if any((path / "data").glob("*.parquet")) else path
    for file in sorted(folder.glob("*.parquet")):
        files.setdefault(_split_in(file), []).append(file)
    return files


def _split_in(file: Path) -> str:
    """Return "validation" of "validation-00000-of-00068.parquet"."""
    return re.sub(r"-\d+(-of-\d+)?(-[0-9a-f]+)?$", "", file.stem)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return " Did you mean …?" with the nearest known name, or nothing."""
    near = split_like(name, known) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    return f" Did you mean {near!r}?" if near else ""
