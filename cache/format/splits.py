"""The table of one split: which picture and which question each row is, and all its answers."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from frozen_vqa.cache.errors import CacheDamagedError, CacheError
from frozen_vqa.cache.format.hdf5 import (
    Hdf5Bytes,
    Hdf5File,
    build_hdf5,
    column_datasets,
    require_offsets,
    running_total,
    text_datasets,
)
from frozen_vqa.cache.format.records.files import Id

T = TypeVar("T")


@dataclass(frozen=True)
class SplitTable:
    """Questions of one split, in the order of the data set.

    Attributes:
        question_ids: As the data set has them: integers or text.
        image_rows: (questions,) row of the picture in the cache.
        question_rows: (questions,) row of the distinct question in the cache.
        answers: Per question all given answers as written; empty on a test split.
        question_types, answer_types: "" where the data set has none.
        groups: By the name of a further grouping, such as "modality", the group of each question;
            "" where it is in none.
        choices: The texts to choose from, per question; empty if no question has any.
        right_choices: The number of the right one, -1 where it is not known; with `choices`.
        more_images: Rows of the pictures after the first, per question; empty if none has any.
        choice_rows: Rows of the distinct texts that are a question and then one of its choices;
            with `choices`.
        image_ids, more_image_ids: What the data set calls the pictures of each question, as text;
            empty if the cache has every one under that id. `ids_of_pictures` gives them always.
    """

    question_ids: Sequence[Id]
    image_rows: np.ndarray
    question_rows: np.ndarray
    answers: Sequence[tuple[str, ...]]
    question_types: Sequence[str]
    answer_types: Sequence[str]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    choices: Sequence[tuple[str, ...]] = ()
    right_choices: Sequence[int] = ()
    more_images: Sequence[tuple[int, ...]] = ()
    choice_rows: Sequence[tuple[int, ...]] = ()
    image_ids: Sequence[str] = ()
    more_image_ids: Sequence[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return len(self.question_ids)

    @property
    def all_image_rows(self) -> np.ndarray:
        """The rows of all pictures: those of `image_rows`, then those of `more_images`."""
        more = _integers(_Flat(self.more_images))
        return np.concatenate([self.image_rows, more])

    @property
    def all_question_rows(self) -> np.ndarray:
        """The rows of all texts: those of `question_rows`, then those of `choice_rows`."""
        more = _integers(_Flat(self.choice_rows))
        return np.concatenate([self.question_rows, more])

    @property
    def picture_rows(self) -> np.ndarray:
        """Rows of the pictures of each question, (questions, pictures).

        Raises `CacheError` unless all questions have equally many.
        """
        if not self.more_images:
            return self.image_rows[:, np.newaxis]
        numbers = {1 + len(more) for more in self.more_images}
        if len(numbers) > 1:
            raise CacheError(
                f"its questions are about {min(numbers)} to {max(numbers)} pictures, and equally "
                f"many are needed; extract those with equally many as a split of their own"
            )
        return np.column_stack([self.image_rows, np.array(self.more_images, dtype=np.int64)])

    @property
    def linked_rows(self) -> np.ndarray:
        """The smallest row of all pictures that a question's pictures are linked with.

        (questions,). Pictures of one question are linked, and those that they are linked with. With
        one picture a question it is that picture.
        """
        if not self.more_images:
            return self.image_rows
        shape = self.picture_rows.shape
        pictures, places = np.unique(self.picture_rows, return_inverse=True)
        places = places.reshape(shape)
        label = np.arange(len(pictures))
        while True:
            before = label.copy()
            np.minimum.at(label, places, label[places].min(axis=1, keepdims=True))
            if np.array_equal(label, before):
                return np.asarray(pictures[label[places[:, 0]]])

    def ids_of_pictures(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """Return what the data set calls the pictures of each question.

        `names` has the ids of all rows. One picture may have several ids, and the row only one.
        """
        first = self.image_ids or [names[row] for row in self.image_rows.tolist()]
        more = self.more_image_ids or [tuple(names[r] for r in m) for m in self.more_images]
        more = more or [()] * len(first)
        return [(one, *others) for one, others in zip(first, more, strict=True)]

    def named_pictures(self) -> Iterator[tuple[str, int]]:
        """Yield each image id with its row, if the cache has not every picture under its id."""
        yield from zip(self.image_ids, map(int, self.image_rows), strict=False)
        more = map(zip, self.more_image_ids, self.more_images)
        yield from itertools.chain.from_iterable(more)

    @property
    def rows_by_image_id(self) -> dict[str, int]:
        """The row of each image id, if the cache has not every picture under its id."""
        return dict(self.named_pictures())

    def take(self, rows: np.ndarray) -> "SplitTable":
        """Return the questions of these rows, in their order."""

        def some(values: Any) -> Any:
            if isinstance(values, np.ndarray):
                return values[rows]
            if isinstance(values, Mapping):
                return {name: some(column) for name, column in values.items()}
            return [values[row] for row in rows.tolist()] if len(values) else values

        return SplitTable(**{name: some(values) for name, values in vars(self).items()})

    def to_hdf5(self) -> Hdf5Bytes:
        """Return the split as an HDF5 file."""
        # A mark for each id, because "7" and 7 are different ids.
        integer = np.fromiter((isinstance(i, int) for i in self.question_ids), np.uint8)
        return build_hdf5(
            {
                **column_datasets("question_id_is_integer", integer),
                **text_datasets("question_id", map(str, self.question_ids)),
                **column_datasets("image_row", np.asarray(self.image_rows, dtype=np.int64)),
                **column_datasets("question_row", np.asarray(self.question_rows, dtype=np.int64)),
                **_cut("answers", self.answers),
                **_repeated_texts("answer", _Flat(self.answers)),
                **_repeated_texts("question_type", self.question_types),
                **_repeated_texts("answer_type", self.answer_types),
                **text_datasets("groups", list(self.groups)),
                **{
                    name: column
                    for number, groups in enumerate(self.groups.values())
                    for name, column in _repeated_texts(f"group_{number}", groups).items()
                },
                **_cut("choices", self.choices),
                **_repeated_texts("choice", _Flat(self.choices)),
                **column_datasets("choice_row", _integers(_Flat(self.choice_rows))),
                **column_datasets("right_choice", _integers(self.right_choices)),
                **_cut("more_images", self.more_images),
                **column_datasets("more_image_row", _integers(_Flat(self.more_images))),
                **_repeated_texts("image_id", self.image_ids),
                **_repeated_texts("more_image_id", _Flat(self.more_image_ids)),
            }
        )


def read_split(file: Hdf5File) -> SplitTable:
    """Read a split; raise `CacheDamagedError` if its columns do not fit together."""
    integer = file.column("question_id_is_integer", np.uint8)
    ids = file.texts("question_id")
    image_rows, question_rows = file.column("image_row"), file.column("question_row")
    answers = _read_cut(file, "answers", _read_repeated_texts(file, "answer"))
    question_types = _read_repeated_texts(file, "question_type")
    answer_types = _read_repeated_texts(file, "answer_type")
    groups = _read_groups(file)
    choices = _read_cut(file, "choices", _read_repeated_texts(file, "choice"))
    choice_rows = _read_cut(file, "choices", file.column("choice_row").tolist())
    right_choices = file.column("right_choice").tolist()
    more_images = _read_cut(file, "more_images", file.column("more_image_row").tolist())
    image_ids = _read_repeated_texts(file, "image_id")
    more_ids = _read_repeated_texts(file, "more_image_id")
    more_image_ids = _read_cut(file, "more_images", more_ids) if image_ids else []
    columns: list[Sized] = [integer, image_rows, question_rows, answers]
    columns += [question_types, answer_types, *groups.values()]
    differ = any(len(column) != len(ids) for column in columns)
    differ |= any(len(some) not in (0, len(ids)) for some in (choices, more_images, image_ids))
    if differ or len(right_choices) != len(choices):
        raise CacheDamagedError(f"{file.path}: its columns have different lengths")
    if any(not -1 <= right < len(c) for right, c in zip(right_choices, choices, strict=True)):
        raise CacheDamagedError(f"{file.path}: a right choice is none of its choices")
    try:
        question_ids = [int(i) if n else i for i, n in zip(ids, integer, strict=True)]
    except ValueError as error:
        raise CacheDamagedError(f"{file.path}: an integer question id is no number") from error
    return SplitTable(
        question_ids=question_ids,
        image_rows=image_rows,
        question_rows=question_rows,
        answers=answers,
        question_types=question_types,
        answer_types=answer_types,
        groups=groups,
        choices=choices,
        right_choices=right_choices,
        more_images=more_images,
        choice_rows=choice_rows,
        image_ids=image_ids,
        more_image_ids=more_image_ids,
    )


@dataclass(frozen=True)
class _Flat(Iterable[T]):
    """The values of all questions, one after another."""

    values: Iterable[Iterable[T]]

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self.values)


def _integers(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, np.int64)


def _cut(name: str, values: Sequence[Sequence[object]]) -> dict[str, np.ndarray]:
    """Return where the values of each question begin and end."""
    return column_datasets(f"{name}_begin", running_total(map(len, values)))


def _read_cut(file: Hdf5File, name: str, flat: Sequence[T]) -> list[tuple[T, ...]]:
    offsets = file.column(f"{name}_begin")
    require_offsets(offsets, len(flat), f"{file.path}: {name}")
    return [tuple(flat[a:b]) for a, b in itertools.pairwise(offsets)]


def _read_groups(file: Hdf5File) -> dict[str, list[str]]:
    names = file.texts("groups")
    if len(set(names)) != len(names):
        raise CacheDamagedError(f"{file.path}: it names a group twice")
    return {name: _read_repeated_texts(file, f"group_{i}") for i, name in enumerate(names)}


def _repeated_texts(name: str, texts: Iterable[str]) -> dict[str, np.ndarray]:
    """Return a text column as its distinct values and an index into them; it is read twice."""
    values = sorted(set(texts))
    place = {value: i for i, value in enumerate(values)}
    index = np.fromiter((place[text] for text in texts), np.int32)
    return column_datasets(f"{name}_index", index) | text_datasets(name, values)


def _read_repeated_texts(file: Hdf5File, name: str) -> list[str]:
    values, index = file.texts(name), file.column(f"{name}_index", np.int32)
    if len(index) and not 0 <= index.min() <= index.max() < len(values):
        raise CacheDamagedError(f"{file.path}: {name!r} points outside its values")
    return [values[i] for i in index]
