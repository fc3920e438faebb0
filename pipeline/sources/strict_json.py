"""JSON, read more strictly than Python reads it.

A repeated key, NaN, Infinity and numbers that overflow are refused: Python would take the last
key, and would accept values that JSON does not have. Nothing here knows of questions.
"""

import gc
import gzip
import io
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.json_budget import TooManyValuesError, require_few_values
from frozen_vqa.pipeline.errors import SourceError

_GZIP_MAGIC = b"\x1f\x8b"

LARGEST = 2_000_000_000
"""Bytes of a file, unpacked; that of VQAv2's annotations has 0.4 billion, Visual Genome's one."""

BYTES_EACH = 6
"""Bytes of a value on average, at least; a list of short answers has eight."""

FREE_BYTES, MOST_PACKED = 64 << 20, 40
"""What a gzip file may unpack to: so many bytes, and so many times its own. VQAv2 packs by 20."""

_PIECE = 16 << 20


class NotJsonError(ValueError):
    """The text is not strict JSON. The message names the fault and its column in the line."""

    def __init__(self, found: str, *, line: int = 1, remedy: str = "Mend it there.") -> None:
        super().__init__(found)
        self.line = line
        self.remedy = remedy


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, or raise `NotJsonError`."""
    try:
        require_few_values(text, bytes_each=BYTES_EACH)
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None


def _not_json(error: Exception) -> NotJsonError:
    """Return what Python found wrong with a JSON text."""
    if isinstance(error, NotJsonError):
        return error
    if isinstance(error, json.JSONDecodeError):
        cut_short = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        remedy = "It may be cut short: copy it again." if cut_short else "Mend it there."
        return NotJsonError(f"column {error.colno}: {error.msg}", line=error.lineno, remedy=remedy)
    if isinstance(error, TooManyValuesError):
        return NotJsonError(str(error), remedy="Split it into several files.")
    if isinstance(error, RecursionError):
        return NotJsonError("brackets nest too deeply", remedy="Write it flatter.")
    return NotJsonError("an integer has thousands of digits")  # Python's limit


def read_json(path: Path | str) -> Any:
    """Return the value in a JSON file, gzipped or not; a UTF-8 byte order mark is skipped.

    Raises:
        SourceError: if the file is missing, unreadable, damaged, not UTF-8 or not strict JSON.
    """
    path = Path(path)
    gc_was_on = gc.isenabled()
    gc.disable()  # it takes half the time of VQAv2, and JSON has no cycles
    try:
        with _explained(path):
            return parse_json(json_bytes(path).decode("utf-8-sig"))
    finally:
        if gc_was_on:
            gc.enable()


def entries_in(path: Path | str, key: str | None = None) -> list[Any]:
    """Return the list in a file, or that under `key` of the object in it.

    Raise `SourceError` if there is none.
    """
    return entries_under(path, read_json(path), key)


def entries_under(path: Path | str, content: Any, key: str | None = None) -> list[Any]:
    """Return the list that a file holds, as `entries_in` does."""
    found = content
    if key is not None:
        found = content.get(key) if isinstance(content, dict) else None
    if isinstance(found, list):
        return found
    need = "a list" if key is None else f"an object with a list under {key!r}"
    raise _wrong_shape(path, content, need)


def members_in(path: Path | str) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the object in a file, each parsed when it is asked for.

    So memory holds the text of the file and one value. Raise `SourceError` as `read_json` does.
    """
    path = Path(path)
    with _explained(path):
        text = json_bytes(path).decode("utf-8-sig")
        require_few_values(text, bytes_each=BYTES_EACH)
        place = _skip(text, 0)
        if text[place : place + 1] != "{":
            raise _wrong_shape(path, parse_json(text), "an object by id")
        place = _skip(text, place + 1)
        while text[place : place + 1] != "}":
            name, end = _DECODER.raw_decode(text, place)
            if not isinstance(name, str):
                raise json.JSONDecodeError("Expecting a name in quotation marks", text, place)
            colon = _expect(":", text, end)
            value, end = _DECODER.raw_decode(text, _skip(text, colon + 1))
            yield name, value
            place = _expect(",}", text, end)
            if text[place] == ",":
                place = _expect('"', text, place + 1)
        if (place := _skip(text, place + 1)) < len(text):
            raise json.JSONDecodeError("Extra data", text, place)


_BLANK = re.compile(r"[ \t\n\r]*")


def _skip(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _expect(marks: str, text: str, place: int) -> int:
    """Return the place of the next mark, which has to be one of `marks`."""
    place = _skip(text, place)
    if not text[place : place + 1] or text[place] not in marks:
        raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, marks))}", text, place)
    return place


def _wrong_shape(path: Path | str, content: object, need: str) -> SourceError:
    found = type(content).__name__
    if isinstance(content, dict):
        keys = ", ".join(f"{name!r:.80}" for name in list(content)[:5])
        found = f"keys {keys + (', …' if len(content) > 5 else '') or 'none'}"
    return SourceError(
        f"{path}: found {found}; {need} is needed. Check that this is the right file."
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what is wrong with the text of a file into a `SourceError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: byte {error.start} is not UTF-8; JSON in UTF-8 is needed. Save it as UTF-8."
        ) from None
    except (ValueError, RecursionError) as fault:
        found = _not_json(fault)
        place = f"line {found.line}, " if str(found).startswith("column") else ""
        raise SourceError(f"{path}: {place}{found}; valid JSON is needed. {found.remedy}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise NotJsonError(f"the key {twice!r:.80} occurs twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise NotJsonError(f"{name} stands where a value is needed, and JSON has no such value")


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise NotJsonError(f"the number {text[:40]} is too large")
    return value


# One for all, because making one costs as much as reading a line of JSONL.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def json_bytes(path: Path) -> bytes:
    """Return the bytes of a file of JSON, unpacked if it is gzipped; or raise `SourceError`."""
    need = "a readable JSON file is needed"
    if os.path.isdir(path):
        raise SourceError(f"{path}: this is a folder; {need}. Name a file in it.")
    try:
        data = read_file(path, most=LARGEST)
    except FileNotFoundError:
        raise SourceError(f"{path}: there is no such file; {need}. Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{path}: reading failed ({reason}); {need}. Check the path and its permissions."
        ) from error
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return _unpacked(path, data)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(
            f"{path}: the gzip data is damaged or cut short ({error}); a whole file is needed. "
            "Copy or download it again."
        ) from error


def _unpacked(path: Path, data: bytes) -> bytes:
    most = min(LARGEST, FREE_BYTES + MOST_PACKED * len(data))
    parts, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while part := file.read(_PIECE):
            parts.append(part)
            size += len(part)
            if size > most:
                raise SourceError(
                    f"{path}: its {len(data):,} bytes of gzip unpack to more than {most:,}, the "
                    "limit for a file of this size. If you trust it, unpack it with gunzip."
                )
    return b"".join(parts)
