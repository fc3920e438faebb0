"""The rows of a Hugging Face data set: how each type of column is read, and which is refused."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.types as pat
import xxhash

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.hub_files import UNREADABLE, Rows, Table
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from frozen_vqa.pipeline.sources.validation import (
    LONGEST,
    UnknownFormError,
    UnusableError,
    make_example,
    shown,
)

Reader = Callable[[Any], Any]
"""Turns a value of Arrow into the one that was meant, or raises `UnusableError`."""

_BATCH, _PICTURES = 1000, 16
"""Rows that are read at once: of texts, and of pictures."""

_NO_CLASS = -1  # `datasets` stores it for a class that is not given, as on a test split


class PictureColumn:
    """The undecoded pictures of a table."""

    def __init__(self, table: Table, column: str) -> None:
        self._table, self._column = table, column
        # Rows are asked for nearly in order, by several threads: so two groups are enough.
        self._group = lru_cache(maxsize=2)(self._read_group)
        self._lock = Lock()  # or each thread would read the same group
        self.has_paths = False  # as far as `hashes` has looked

    def value(self, row: int) -> tuple[bytes | None, str | None]:
        """Return the bytes and the path of a picture; a row without one has neither."""
        file, group, inside = self._table.locate(row)
        with self._lock:
            values = self._group(file, group)
        return _picture(values[inside].as_py())

    def content(self, row: int) -> bytes:
        """Return what identifies a picture: its bytes, or its path if it has no bytes."""
        return _content(*self.value(row))

    def hashes(self) -> Iterator[str | None]:
        """Yield an id per row that depends on content alone, so a picture is encoded once."""
        for rows in self._table.files:
            for batch in rows.batches([self._column], _PICTURES):
                for value in batch.column(self._column):
                    data, path = _picture(value.as_py())
                    self.has_paths |= data is None and path is not None
                    content = _content(data, path)
                    yield xxhash.xxh3_128_hexdigest(content) if content else None

    def _read_group(self, file: int, group: int) -> pa.ChunkedArray:
        return self._table.files[file].group(self._column, group)


def _picture(value: Any) -> tuple[bytes | None, str | None]:
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return (None, value) if isinstance(value, str) else (value, None)


def _content(content: bytes | None, path: str | None) -> bytes:
    return (path or "").encode() if content is None else content


def records_of(
    place: str, table: Table, columns: Mapping[str, str]
) -> Iterator[tuple[dict[str, Any], Mapping[str, Reader]]]:
    """Yield the fields of each row as Arrow has them, without the picture, and how to read them.

    `columns` is by field. Raise `SourceError`, before the first row is read, if a column has a
    type that its field does not have.
    """
    readers = [_readers_of(place, rows, columns) for rows in table.files]
    texts = {field: column for field, column in columns.items() if field != "image"}
    for rows, read in zip(table.files, readers, strict=True):
        for batch in rows.batches(sorted(set(texts.values())), _BATCH):
            lists = [_values(place, batch, column) for column in texts.values()]
            for values in zip(*lists, strict=True):
                yield dict(zip(texts, values, strict=True)), read


def example_of(
    record: Mapping[str, Any], row: int, readers: Mapping[str, Reader]
) -> tuple[VqaExample, str]:
    """Return the question of one row, and "": rows do not tell which picture an id means."""
    # An id that stands for the content of a picture has no column, so no reader.
    found = {f: readers[f](value) if f in readers else value for f, value in record.items()}
    if found["image_id"] is None:
        raise UnusableError("the row has no picture, or no id of one; both are needed")
    return make_example({"question_id": row} | found), ""


def _readers_of(place: str, rows: Rows, columns: Mapping[str, str]) -> dict[str, Reader]:
    readers = {}
    for field, column in columns.items():
        kind = rows.schema.field(column).type
        find, need = _FIELDS[field]
        empty = pat.is_null(kind) and field in _NEVER_NULL
        reader = None if empty else find(kind, rows.features.get(column))
        if not reader:
            file = f" of {rows.file}" if rows.file else ""
            raise SourceError(
                f"{place}: column {column!r}{file} holds {_type_name(kind)}, and {need}."
            )
        as_python = column == "direct_answers" and _is_text(kind)
        readers[field] = _python_list if as_python else reader
    return readers


def fits(rows: Rows, field: str, column: str) -> bool:
    """Whether a column has a type that its field may have."""
    kind = rows.schema.field(column).type
    return _FIELDS[field][0](kind, rows.features.get(column)) is not None


def _values(place: str, batch: pa.RecordBatch, column: str) -> list[Any]:
    try:
        return batch.column(column).to_pylist()
    except UNREADABLE as error:  # such as text that is not UTF-8
        raise SourceError(
            f"{place}: column {column!r} cannot be read ({type(error).__name__}: {error}). "
            "Write the file again."
        ) from error


# What follows finds the reader of a type; None means that the type does not fit.


def _text(kind: pa.DataType, feature: Any) -> Reader | None:
    kind = _plain(kind)
    if names := getattr(feature, "names", None):
        return _class_reader(list(names)) if pat.is_integer(kind) else None
    is_json = getattr(feature, "_type", "") == "Json"
    if isinstance(kind, pa.JsonType) or (is_json and _is_text(kind)):
        return _parse
    return _same if _is_text(kind) or pat.is_null(kind) else None


def _id(kind: pa.DataType, feature: Any) -> Reader | None:
    return _text(kind, feature) or (_same if pat.is_integer(_plain(kind)) else None)


def _list(kind: pa.DataType, feature: Any, find: Callable[..., Reader | None]) -> Reader | None:
    if not isinstance(kind, _LISTS):
        return None
    read = find(kind.value_type, getattr(feature, "feature", None))
    return read and (lambda values: values and [read(value) for value in values])


def _record(kind: pa.DataType, feature: Any, find: Callable[..., Reader | None]) -> Reader | None:
    if not pat.is_struct(kind) or kind.get_field_index("answer") < 0:
        return None
    inner = feature.get("answer") if isinstance(feature, dict) else None
    read = find(kind.field("answer").type, inner)
    return read and (lambda value: value and {"answer": read(value["answer"])})


def _text_or_record(kind: pa.DataType, feature: Any) -> Reader | None:
    return _text(kind, feature) or _record(kind, feature, _text)


def _text_or_texts(kind: pa.DataType, feature: Any) -> Reader | None:
    return _text(kind, feature) or _list(kind, feature, _text)


def _answers(kind: pa.DataType, feature: Any) -> Reader | None:
    """A text, a list of texts or of records; or a record of a list, as older sets have it."""
    return (
        _text(kind, feature)
        or _list(kind, feature, _text_or_record)
        or _record(kind, feature, _text_or_texts)
    )


def _choices(kind: pa.DataType, feature: Any) -> Reader | None:
    return _list(kind, feature, _text)


def _number(kind: pa.DataType, feature: Any) -> Reader | None:
    names = getattr(feature, "names", None)
    return _same if pat.is_integer(_plain(kind)) and not names else None


def _image(kind: pa.DataType, feature: Any) -> Reader | None:
    if pat.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        fits = {"bytes", "path"} & set(fields) and all(
            pat.is_null(fields[name]) or is_kind(fields[name])
            for name, is_kind in (("bytes", _is_binary), ("path", _is_text))
            if name in fields
        )
        return _same if fits else None
    return _same if _is_binary(_plain(kind)) or _is_text(_plain(kind)) else None


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, however they are packed."""
    packed = pat.is_dictionary(kind) or pat.is_run_end_encoded(kind)
    return kind.value_type if packed else kind


def _is_binary(kind: pa.DataType) -> bool:
    return pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind)


def _same(value: Any) -> Any:
    return value


def _parse(text: str | None) -> Any:
    if text == "null":
        raise UnknownFormError("a value is null or the text 'null', which `datasets` stores alike")
    try:
        return None if text is None else parse_json(text)
    except NotJsonError as error:
        raise UnusableError(f"a value is not JSON: {error}") from None


def _python_list(text: str | None) -> Any:
    """Return the list that a text writes as Python does, as a copy of A-OKVQA has it."""
    try:
        return None if text is None else ast.literal_eval(text[:LONGEST])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise UnusableError(f"direct_answers is {shown(text)}; a list is needed") from None


def _class_reader(names: Sequence[str]) -> Reader:
    def read(number: int | None) -> str | None:
        if number is None or number == _NO_CLASS:
            return None
        if not 0 <= number < len(names):
            raise UnusableError(f"class {shown(number)} is not among 0 to {len(names) - 1}")
        return names[number]

    return read


def _type_name(kind: pa.DataType) -> str:
    name = str(kind)
    return name if len(name) <= 120 else f"{name[:117]}..."


_LISTS = (
    pa.ListType,
    pa.LargeListType,
    pa.FixedSizeListType,
    pa.ListViewType,
    pa.LargeListViewType,
)
_NEVER_NULL = ("image", "question", "question_id", "image_id")
_TEXT = "text is needed. Write it as text, or name another column by --column {field}=NAME"
_ID = (
    "text or whole numbers are needed. Write it so, name another column by --column {field}=NAME, "
    "or give --column {field}= to do without"
)
_FIELDS: dict[str, tuple[Callable[[pa.DataType, Any], Reader | None], str]] = {
    "image": (_image, "pictures are needed. Name the picture column by --column image=NAME"),
    "question": (_text, _TEXT.format(field="question")),
    "question_type": (_text, _TEXT.format(field="question_type")),
    "answer_type": (_text, _TEXT.format(field="answer_type")),
    "question_id": (_id, _ID.format(field="question_id")),
    "image_id": (_id, _ID.format(field="image_id")),
    "answers": (
        _answers,
        'a text, a list of texts, or records with a text "answer" is needed. Write answers as '
        "text; numbers may stand for classes whose names are lost",
    ),
    "choices": (_choices, "a list of texts is needed"),
    "right_choice": (_number, "the number of the right choice, from 0 on, is needed"),
}
"""How a column of each field is read, and what its type must be."""
