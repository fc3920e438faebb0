"""The table of one split: which picture and which question each row is, and all its answers."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.hdf5 import (
    Hdf5Bytes,
    Hdf5File,
    build_hdf5,
    column_datasets,
    require_offsets,
    running_total,
    text_datasets,
)
from frozen_vqa.cache.format.manifest import Id


@dataclass(frozen=True)
class SplitTable:
    """Questions of one split, in the order of the data set.

    Attributes:
        question_ids: As the data set has them: integers or text.
        image_rows: (questions,) row of the picture in the cache.
        question_rows: (questions,) row of the distinct question in the cache.
        answers: Per question all given answers as written; empty on a test split.
        question_types, answer_types: "" where the data set has none.
    """

    question_ids: Sequence[Id]
    image_rows: np.ndarray
    question_rows: np.ndarray
    answers: Sequence[tuple[str, ...]]
    question_types: Sequence[str]
    answer_types: Sequence[str]

    def __len__(self) -> int:
        return len(self.question_ids)

    def to_hdf5(self) -> Hdf5Bytes:
        """Return the split as an HDF5 file."""
        flat = [answer for answers in self.answers for answer in answers]
        # A mark for each id, because "7" and 7 are different ids.
        integer = np.array([isinstance(i, int) for i in self.question_ids], dtype=np.uint8)
        return build_hdf5(
            {
                **column_datasets("question_id_is_integer", integer),
                **text_datasets("question_id", [str(i) for i in self.question_ids]),
                **column_datasets("image_row", np.asarray(self.image_rows, dtype=np.int64)),
                **column_datasets("question_row", np.asarray(self.question_rows, dtype=np.int64)),
                **column_datasets("answers_begin", running_total([len(a) for a in self.answers])),
                **_repeated_texts("answer", flat),
                **_repeated_texts("question_type", self.question_types),
                **_repeated_texts("answer_type", self.answer_types),
            }
        )


def read_split(file: Hdf5File) -> SplitTable:
    """Read a split; raise `CacheDamagedError` if its columns do not fit together."""
    integer = file.column("question_id_is_integer", np.uint8)
    ids = file.texts("question_id")
    image_rows, question_rows = file.column("image_row"), file.column("question_row")
    offsets = file.column("answers_begin")
    flat = _read_repeated_texts(file, "answer")
    question_types = _read_repeated_texts(file, "question_type")
    answer_types = _read_repeated_texts(file, "answer_type")
    columns = (integer, image_rows, question_rows, question_types, answer_types, offsets[1:])
    if any(len(column) != len(ids) for column in columns):
        raise CacheDamagedError(f"{file.path}: its columns have different lengths")
    require_offsets(offsets, len(flat), f"{file.path}: answers")
    try:
        question_ids = [int(i) if n else i for i, n in zip(ids, integer, strict=True)]
    except ValueError as error:
        raise CacheDamagedError(f"{file.path}: an integer question id is no number") from error
    return SplitTable(
        question_ids=question_ids,
        image_rows=image_rows,
        question_rows=question_rows,
        answers=[tuple(flat[a:b]) for a, b in itertools.pairwise(offsets)],
        question_types=question_types,
        answer_types=answer_types,
    )


def _repeated_texts(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return a text column as its distinct values and an index into them."""
    values = sorted(set(texts))
    place = {value: i for i, value in enumerate(values)}
    index = np.array([place[text] for text in texts], dtype=np.int32)
    return column_datasets(f"{name}_index", index) | text_datasets(name, values)


def _read_repeated_texts(file: Hdf5File, name: str) -> list[str]:
    values, index = file.texts(name), file.column(f"{name}_index", np.int32)
    if len(index) and not 0 <= index.min() <= index.max() < len(values):
        raise CacheDamagedError(f"{file.path}: {name!r} points outside its values")
    return [values[i] for i in index]
