"""A record of a file as a question, whatever form the file has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from frozen_vqa.pipeline.sources.example import Id, VqaExample, fields_of
from frozen_vqa.pipeline.sources.own.columns import NEEDED, Columns, find_columns
from frozen_vqa.pipeline.sources.own.pictures import PictureFolder
from frozen_vqa.pipeline.sources.own.tables import Record
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from frozen_vqa.pipeline.sources.table_budget import require_few_names
from frozen_vqa.pipeline.sources.validation import (
    UnknownFormError,
    UnusableError,
    id_or_none,
    make_example,
    require_fields,
    shown,
    text_of,
    type_of,
)


@dataclass(slots=True)
class Line:
    """A record with its split, and the question in it or why it cannot be used."""

    number: int
    where: str
    question_id: Id | None  # None if it cannot be read
    split: str | None  # "" if the record names none, None if it cannot be read
    found: tuple[VqaExample, str] | UnusableError  # the question and the path of its picture

    def example(self) -> tuple[VqaExample, str]:
        if isinstance(self.found, UnusableError):
            raise self.found
        return self.found

    def packed(self) -> tuple[Any, ...]:
        """Return what `LongList` keeps of it."""
        found: tuple[Any, ...]
        if isinstance(self.found, UnusableError):
            found = isinstance(self.found, UnknownFormError), str(self.found), self.found.where
        else:
            found = fields_of(self.found[0]), self.found[1]
        return self.number, self.where, self.question_id, self.split, found

    @classmethod
    def unpacked(cls, kept: tuple[Any, ...]) -> "Line":
        """Return the line that was packed."""
        number, where, question_id, split, found = kept
        if len(found) == 2:
            return cls(number, where, question_id, split, (VqaExample(*found[0]), found[1]))
        error = (UnknownFormError if found[0] else UnusableError)(found[1])
        error.where = found[2]
        return cls(number, where, question_id, split, error)

    def refuse(self, reason: str) -> None:
        """Make the line unusable; if it is unusable already, it keeps its reason."""
        if not isinstance(self.found, UnusableError):
            self.found = UnusableError(reason)


@dataclass(frozen=True)
class Reader:
    """How the records of a file are read.

    Attributes:
        given: Columns that were named by hand: pairs of field and name.
        header: The columns of a table, whose values are all texts; None for JSON.
        pictures: The folder that paths begin from, and `below` what stands before them.
    """

    given: tuple[tuple[str, str], ...]
    header: Columns | None
    pictures: PictureFolder
    below: str = ""
    names: dict[str, None] = field(default_factory=dict)  # of all records so far, in their order

    def read(self, record: Record) -> Line:
        """Return the line of a record; it says why if it cannot be used."""
        split, question_id, number = None, None, record.number
        try:
            if isinstance(record.found, UnusableError):
                raise record.found
            self.names.update(dict.fromkeys(record.found))
            require_few_names(self.names, record.where)
            columns = self.header or find_columns(tuple(record.found), self.given)
            named = columns.found.items()
            fields = {one: record.found[name] for one, name in named if name in record.found}
            if self.header:
                fields = {one: _value(one, cell) for one, cell in fields.items()}
            question_id = id_or_none(fields.get("question_id", number))
            split = type_of(fields.get("split"), "split")
            if columns.fault:
                raise UnusableError(columns.fault)
            found = self._example(fields, number)
            return Line(number, record.where, question_id, split, found)
        except UnusableError as error:
            # It is kept, and its traceback would keep every frame and local of this reading.
            return Line(number, record.where, question_id, split, error.with_traceback(None))

    def _example(self, fields: Mapping[str, Any], number: int) -> tuple[VqaExample, str]:
        require_fields(fields, NEEDED)
        image, file = self.pictures.find(text_of(fields["image"], "image"), self.below)
        return make_example({"question_id": number, "image_id": image, **fields}), file


def _value(name: str, cell: str) -> Any:
    """Return what a cell of a field means, as JSON would have it."""
    if name in ("question_id", "image_id"):
        # A whole number in its only spelling is one, so that no two ids fall together.
        is_number = re.fullmatch(r"0|-?[1-9][0-9]{0,18}", cell)
        return int(cell) if is_number else cell
    if name != "answers" or not cell.startswith("["):
        return cell
    try:
        return parse_json(cell)
    except NotJsonError:
        raise UnusableError(
            f'answers is {shown(cell)}; several answers in a cell are a JSON list: ["a", "b"]'
        ) from None
