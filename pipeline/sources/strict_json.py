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
import zlib
from collections import Counter
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
    except json.JSONDecodeError as error:
        cut_short = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        remedy = "It may be cut short: copy it again." if cut_short else "Mend it there."
        found = f"column {error.colno}: {error.msg}"
        raise NotJsonError(found, line=error.lineno, remedy=remedy) from None
    except NotJsonError:
        raise
    except TooManyValuesError as error:
        raise NotJsonError(str(error), remedy="Split it into several files.") from None
    except RecursionError:
        raise NotJsonError("brackets nest too deeply", remedy="Write it flatter.") from None
    except ValueError:  # Python's limit of digits
        raise NotJsonError("an integer has thousands of digits") from None


def read_json(path: Path | str) -> Any:
    """Return the value in a JSON file, gzipped or not; a UTF-8 byte order mark is skipped.

    Raises:
        SourceError: if the file is missing, unreadable, damaged, not UTF-8 or not strict JSON.
    """
    path = Path(path)
    gc_was_on = gc.isenabled()
    gc.disable()  # it takes half the time of VQAv2, and JSON has no cycles
    try:
        return parse_json(_read_bytes(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: byte {error.start} is not UTF-8; JSON in UTF-8 is needed. Save it as UTF-8."
        ) from None
    except NotJsonError as error:
        place = f"line {error.line}, " if str(error).startswith("column") else ""
        raise SourceError(f"{path}: {place}{error}; valid JSON is needed. {error.remedy}") from None
    finally:
        if gc_was_on:
            gc.enable()


def entries_in(path: Path | str, key: str) -> list[Any]:
    """Return the list under `key` of the object in a file; raise `SourceError` if it has none."""
    return entries_under(path, key, read_json(path))


def entries_under(path: Path | str, key: str, content: Any) -> list[Any]:
    """Return the list under `key` of what a file holds; raise `SourceError` if it has none."""
    if isinstance(content, dict) and isinstance(content.get(key), list):
        return content[key]
    found = type(content).__name__
    if isinstance(content, dict):
        keys = ", ".join(f"{name!r:.80}" for name in list(content)[:5])
        found = f"keys {keys + (', …' if len(content) > 5 else '') or 'none'}"
    raise SourceError(
        f"{path}: found {found}; an object with a list under {key!r} is needed. "
        "Check that this is the right file."
    )


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


def _read_bytes(path: Path) -> bytes:
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
