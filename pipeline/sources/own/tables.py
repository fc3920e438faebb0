"""A file of questions as records: JSONL, a JSON list, or a table (CSV, TSV).

The content decides which it is. A file is a table if its first row names a question, whatever else
it holds; it is a JSON list if it is JSON and begins with "["; else it has one JSON object a line.
The text is UTF-8, or UTF-16 with the mark that Excel puts before it.
"""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.json_budget import require_few_values
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.own.columns import field_of
from frozen_vqa.pipeline.sources.strict_json import BYTES_EACH, LARGEST, NotJsonError, parse_json
from frozen_vqa.pipeline.sources.table_budget import MOST_COLUMNS, require_few_names
from frozen_vqa.pipeline.sources.validation import UnusableError, shown

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LONGEST_LINE = 1_000_000
"""Bytes of a line of JSONL; that of a question with ten answers has some hundred."""

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
"""The endings of files of questions in a folder."""
_OBJECT = '{"image": …, "question": …, "answer": …}'


@dataclass(frozen=True, slots=True)
class Record:
    """One question as it is written, or why it cannot be read.

    Attributes:
        number: Counted from 1: a line of JSONL, an entry of a list, or a row below the names.
        where: The file, and the line or entry.
        found: The values by name. A table has only texts, and leaves out blank ones.
    """

    number: int
    where: str
    found: Mapping[str, Any] | UnusableError


@dataclass(frozen=True)
class Table:
    """The records of a file.

    Attributes:
        kind: For people, such as "CSV with semicolons, UTF-16".
        unit: What a record is called: "line", "entry" or "row".
        columns: The names in the first row of a table; None for JSON, as each record has its own.
    """

    kind: str
    unit: str
    records: Iterable[Record]
    columns: Sequence[str] | None = None


def read_table(file: Path, columns: Mapping[str, str]) -> Table:
    """Return the records of a file; `columns` has the names that were given by hand.

    Raises:
        SourceError: here or from the records, if the file cannot be read, its encoding is not
            known, or a quotation mark or bracket is not closed.
    """
    try:
        data, encoding = _decode(read_file(file, most=LARGEST), file)
    except OSError as error:
        raise SourceError(f"{file}: reading failed ({error.strerror}). Check the file.") from error
    if not data.strip():
        raise SourceError(f"{file}: the file has no lines; one line a question is needed.")
    first, _, rest = data.strip().partition(b"\n")
    start, value = first[:1], _json_or_none(first)
    if start not in b"[{" or (value is None and _json_or_none(data) is None):
        if delimiter := _delimiter(data, file, columns):
            return _read_rows(data, file, delimiter, encoding)
        is_list = start == b"[" and file.suffix.lower() != ".jsonl"  # damaged: it will say where
    elif value is None:
        is_list = True
    else:
        is_list = not rest.strip() and not _is_question(value)
    if is_list:
        return Table(f"JSON list, {encoding}", "entry", _read_entries(data, file))
    return Table(f"JSONL, {encoding}", "line", read_lines(data, file))


def _is_question(value: Any) -> bool:
    return isinstance(value, dict) and any(field_of(name) == "question" for name in value)


def _decode(data: bytes, file: Path) -> tuple[bytes, str]:
    """Return the content as UTF-8 without a mark, which need not be valid, and its encoding."""
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8), "UTF-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode(), "UTF-16"
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{file}: byte {error.start + 1} is not UTF-16, as which the file is marked; it "
                "may be cut short. Save it again, as UTF-8."
            ) from None
    if b"\0" in data[:2]:
        raise SourceError(
            f"{file}: it begins with a NUL, as UTF-16 without its mark does. Save it as UTF-8."
        )
    return data, "UTF-8"


def _json_or_none(data: bytes) -> Any:
    try:
        require_few_values(data, bytes_each=BYTES_EACH)
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _delimiter(data: bytes, file: Path, columns: Mapping[str, str]) -> str | None:
    """Return what divides the cells, if the first row has a name of a question; else None.

    A file that is named as a table is one whatever its first row has, unless that is JSON.
    """
    first = data.lstrip()[: 1 << 16]
    rows = {delimiter: _first_row(first, delimiter) for delimiter in DELIMITERS}
    counts = {
        delimiter: sum(bool(field_of(name)) or name in columns.values() for name in names)
        for delimiter, names in rows.items()
        if any(field_of(name) == "question" or name == columns.get("question") for name in names)
    }
    if not counts and file.suffix.lower() in (".csv", ".tsv") and first[:1] not in b"[{":
        counts = {delimiter: len(names) for delimiter, names in rows.items()}
    return max(counts, key=lambda delimiter: counts[delimiter]) if counts else None


def _first_row(data: bytes, delimiter: str) -> list[str]:
    lines = _lines_of(data.decode(errors="replace"))
    try:
        names = next(csv.reader(lines, delimiter=delimiter))
        return [cell.strip() for cell in names[: MOST_COLUMNS + 1]]
    except csv.Error:
        return []


def _lines_of(text: str) -> io.StringIO:
    return io.StringIO(text, newline="")  # line breaks within cells stay as they are


def _read_rows(data: bytes, file: Path, delimiter: str, encoding: str) -> Table:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"{file}:{line}: byte {error.start + 1} of the file is not UTF-8. Save it as UTF-8; "
            'Excel calls that "CSV UTF-8".'
        ) from None
    rows = _split_rows(text, file, delimiter)
    _, cells = next(rows)
    names = [cell.strip() for cell in cells]
    require_few_names(names, file)
    counts = Counter(filter(None, names))
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise SourceError(f"{file}: two columns are named {shown(twice)}. Rename one of them.")
    records = (
        Record(number, f"{file}:{line}", _row(names, cells))
        for number, (line, cells) in enumerate(rows, 1)
    )
    kind = "TSV" if delimiter == "\t" else f"CSV with {DELIMITERS[delimiter]}"
    return Table(f"{kind}, {encoding}", "row", records, [name for name in names if name])


def _split_rows(text: str, file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the line where it begins."""
    reader, line = csv.reader(_lines_of(text), delimiter=delimiter, strict=True), 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(
            f"{file}:{line}: a quotation mark in this row is not closed, or stands within a text "
            f"({error}). Put the text in quotation marks, and write each mark in it twice."
        ) from None


def _row(names: Sequence[str], cells: Sequence[str]) -> Mapping[str, str] | UnusableError:
    if any(cell.strip() for cell in cells[len(names) :]):
        return UnusableError(
            f"the row has {len(cells)} cells, and the first row has {len(names)} names; put a text "
            "that holds the delimiter in quotation marks"
        )
    pairs = zip(names, cells, strict=False)
    return {name: cell for name, cell in pairs if name and cell.strip()}


def _read_entries(data: bytes, file: Path) -> Iterator[Record]:
    try:
        entries = _list_in(parse_json(data.decode()), file)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{file}: byte {error.start + 1} is not UTF-8; JSON in UTF-8 is needed. Save it as "
            "UTF-8."
        ) from None
    except NotJsonError as error:
        place = f"line {error.line}, " if str(error).startswith("column") else ""
        raise SourceError(
            f"{file}: {place}{error}; a JSON list is needed. {error.remedy}"
        ) from None
    for number, entry in enumerate(entries, 1):
        found = entry if isinstance(entry, dict) else _no_object(entry, "an object is needed")
        yield Record(number, f"{file}: entry {number}", found)


def _list_in(content: Any, file: Path) -> list[Any]:
    """Return a list, or the only list of an object, such as {"version": …, "data": […]}."""
    lists = [content] if isinstance(content, list) else []
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
    if len(lists) == 1 and lists[0]:
        return lists[0]
    found = f"an object with {', '.join(map(shown, list(content)[:5]))}" if content else "nothing"
    raise SourceError(
        f"{file}: found {found}; a list of objects like {_OBJECT} is needed. Write the questions "
        "as such a list."
    )


def read_lines(data: bytes, file: Path) -> Iterator[Record]:
    """Yield the lines of JSONL that are not blank."""
    for number, ended in enumerate(io.BytesIO(data), 1):
        raw = ended.removesuffix(b"\n")
        if len(raw) > LONGEST_LINE:
            fault = UnusableError(f"the line has more than {LONGEST_LINE:,} bytes; cut it")
            yield Record(number, f"{file}:{number}", fault)
        elif raw.strip():
            yield Record(number, f"{file}:{number}", _parse_line(raw, file, number))


def _parse_line(raw: bytes, file: Path, number: int) -> Mapping[str, Any] | UnusableError:
    try:
        value = parse_json(raw.rstrip().decode())
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return UnusableError("the line is cut short within a letter")
        raise SourceError(
            f"{file}:{number}: byte {error.start + 1} of the line is not UTF-8; JSON in UTF-8 is "
            "needed. Save the file as UTF-8."
        ) from None
    except NotJsonError as error:
        return UnusableError(f"{error}; one JSON object a line is needed")
    return (
        value if isinstance(value, dict) else _no_object(value, "one JSON object a line is needed")
    )


def _no_object(value: object, need: str) -> UnusableError:
    return UnusableError(f"found {shown(value)}; {need}, such as {_OBJECT}")
