"""An answer vocabulary from a file: one answer a line, or a JSON list of texts.

A list is what a run keeps in answers.json, so that the answers of one head can be given to another.
The order of the file is that of the classes, and a class is written as the file writes it.
"""

from collections.abc import Iterable
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.metrics.vqa_accuracy import normalise
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from frozen_vqa.pipeline.sources.validation import UnusableError, text_of

MOST_BYTES = 10_000_000
"""Of a file. A larger one is no vocabulary, and would ask for a head of gigabytes."""

NEEDED = "needed is one answer a line, or a JSON list of texts"


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the answers of a file, in its order.

    Raises:
        ConfigError: with file and line, if it cannot be read, or is not UTF-8, holds no answer, an
            empty line, or two answers that the official normalisation makes equal.
    """
    text = _read(path)
    listed = text.lstrip()[:1] in ("[", "{")  # an object is no list, and is told so
    answers, place = (_list(path, text), "entry") if listed else (_lines(path, text), "line")
    if not answers:
        raise ConfigError(f"{path}: there is no answer in it; {NEEDED}")
    _require_distinct(path, answers, place)
    return Vocabulary(tuple(answers))


def _read(path: Path) -> str:
    try:
        data = read_file(path, most=MOST_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}); {NEEDED}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise ConfigError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None


def _list(path: Path, text: str) -> list[str]:
    try:
        found = parse_json(text)
    except NotJsonError as error:
        place = f"line {error.line}, " if str(error).startswith("column") else ""
        raise ConfigError(f"{path}: {place}{error}; {NEEDED}. {error.remedy}") from None
    if not isinstance(found, list):
        raise ConfigError(f"{path}: line 1 begins an object; {NEEDED}")
    return [_text(path, f"entry {i}", answer) for i, answer in enumerate(found, start=1)]


def _lines(path: Path, text: str) -> list[str]:
    """Return the lines without the spaces around them, which nobody sees."""
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    if lines[-1] == "":  # behind the last line's end
        lines.pop()
    for i, line in enumerate(lines, start=1):
        if not _text(path, f"line {i}", line):
            raise ConfigError(f"{path}: line {i} is empty; remove it")
    return lines


def _text(path: Path, place: str, answer: object) -> str:
    try:
        return text_of(answer, place)
    except UnusableError as error:
        raise ConfigError(f"{path}: {error}") from None


def _require_distinct(path: Path, answers: Iterable[str], place: str) -> None:
    first: dict[str, tuple[int, str]] = {}
    for i, answer in enumerate(answers, start=1):
        before, form = first.setdefault(normalise(answer), (i, answer))
        if before != i:
            raise ConfigError(
                f"{path}: {place} {i} ({answer!r}) is the same answer as {place} {before} "
                f"({form!r}) to the official metric; keep one of them"
            )
