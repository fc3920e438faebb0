"""One row of a Hugging Face data set as a question."""

from collections.abc import Iterator, Mapping
from typing import Any

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
_NO_CLASS = -1  # what `datasets` stores where a class is not given, as on a test split


def records_of(data: Any, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each row without touching its picture.

    Args:
        data: A `datasets.Dataset`.
        columns: Column by field, without the picture.
    """
    texts = data.select_columns(list(set(columns.values())))
    for batch in texts.iter(batch_size=_BATCH):
        for values in zip(*(batch[column] for column in columns.values()), strict=True):
            yield dict(zip(columns, values, strict=True))


def classes_of(data: Any, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of the classes of each field that is stored as the number of one."""
    features = {field: data.features[column] for field, column in columns.items()}
    return {f: list(feature.names) for f, feature in features.items() if hasattr(feature, "names")}


def example_of(record: dict[str, Any], row: int, classes: Mapping[str, list[str]]) -> VqaExample:
    """Make an example of one row; optional texts may be null, as on a test split.

    Raises:
        UnusableError: if a value is not what its field needs.
    """
    for field, names in classes.items():
        record[field] = _class_name(record[field], names, field)
    given = record.get("answers")
    if isinstance(given, dict):
        given = given.get("answer")  # older sets store a list of records so
    if isinstance(given, list):
        given = [answer.get("answer") if isinstance(answer, dict) else answer for answer in given]
    if record["image_id"] is None:
        raise UnusableError("the row has no picture, or no id of one; both are needed")
    return VqaExample(
        question_id=id_of(record.get("question_id", row), "question_id"),
        image_id=id_of(record["image_id"], "image_id"),
        question=question_of(record["question"]),
        answers=answers_of(given),
        question_type=type_of(record.get("question_type"), "question_type"),
        answer_type=type_of(record.get("answer_type"), "answer_type"),
    )


def _class_name(number: object, names: list[str], field: str) -> str | None:
    """Return what the author wrote, of which the data set stores the number."""
    if number is None or number == _NO_CLASS:
        return None
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise UnusableError(f"{field} is class {shown(number)}; there are 0 to {len(names) - 1}")
    return names[number]
