"""The rows of a Hugging Face data set: a question of each, and its undecoded picture."""

from collections.abc import Iterator, Mapping
from typing import Any

import xxhash

from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.validation import (
    UnusableError,
    answers_of,
    id_of,
    question_of,
    shown,
    type_of,
)

_BATCH = 1000
_NO_CLASS = -1  # `datasets` stores it for a class that is not given, as on a test split


class PictureColumn:
    """The pictures of a `datasets.Dataset` of one column, `datasets.Image(decode=False)`."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def value(self, row: int) -> tuple[bytes | None, str | None]:
        """Return the bytes and the path of a picture; a row without one has neither."""
        (value,) = self._rows[row].values()
        return (value["bytes"], value["path"]) if value else (None, None)

    def content(self, row: int) -> bytes:
        """Return what identifies a picture: its bytes, or its path if it has no bytes."""
        content, path = self.value(row)
        return (path or "").encode() if content is None else content

    def hashes(self) -> Iterator[str | None]:
        """Yield an id per row that depends on content alone, so a picture is encoded once."""
        for row in range(len(self._rows)):  # one at a time, to keep memory flat
            content = self.content(row)
            yield xxhash.xxh3_128_hexdigest(content) if content else None


def records_of(data: Any, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each row; `columns` is by field, without the picture."""
    texts = data.select_columns(list(set(columns.values())))
    for batch in texts.iter(batch_size=_BATCH):
        for values in zip(*(batch[column] for column in columns.values()), strict=True):
            yield dict(zip(columns, values, strict=True))


def classes_of(data: Any, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the class names of each field that is stored as the number of a class."""
    features = {field: data.features[column] for field, column in columns.items()}
    return {f: list(feature.names) for f, feature in features.items() if hasattr(feature, "names")}


def example_of(
    record: dict[str, Any], row: int, classes: Mapping[str, list[str]]
) -> tuple[VqaExample, str]:
    """Return the question of one row, and "": rows do not tell which picture an id means."""
    for field, names in classes.items():
        record[field] = _class_name(record[field], names, field)
    given = record.get("answers")
    if isinstance(given, dict):
        given = given.get("answer")  # the form of a list of records in older sets
    if isinstance(given, list):
        given = [answer.get("answer") if isinstance(answer, dict) else answer for answer in given]
    if record["image_id"] is None:
        raise UnusableError("the row has no picture, or no id of one; both are needed")
    example = VqaExample(
        question_id=id_of(record.get("question_id", row), "question_id"),
        image_id=id_of(record["image_id"], "image_id"),
        question=question_of(record["question"]),
        answers=answers_of(given),
        question_type=type_of(record.get("question_type"), "question_type"),
        answer_type=type_of(record.get("answer_type"), "answer_type"),
    )
    return example, ""


def _class_name(number: object, names: list[str], field: str) -> str | None:
    if number is None or number == _NO_CLASS:
        return None
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise UnusableError(f"{field} is class {shown(number)}; there are 0 to {len(names) - 1}")
    return names[number]
