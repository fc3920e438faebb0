"""The answers that a head can give: chosen from training questions, or read from a file.

A file holds one answer a line, or a JSON list of texts such as the answers.json of a run. Its order
is the order of the classes, and a class is written as the file writes it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.typed_json import UnfitValueError, decode, finite_json
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.metrics.vqa_accuracy import normalise
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from frozen_vqa.pipeline.sources.validation import UnusableError, text_of

MOST_BYTES = 10_000_000
"""The largest file of answers. A larger one would ask for a head of gigabytes."""

MOST_ANSWERS = 300_000
"""Answers that a file may give; VQAv2 has about 30,000 that are the majority of a question."""

Normalise = Callable[[str], str]

NEEDED = "give one answer a line, or a JSON list of texts"
RESTORE = "restore the file, or train the head again"


@dataclass(frozen=True)
class Vocabulary:
    """The answers that a head can give: one raw form per class, the most frequent class first.

    Two texts that the metric's normalisation makes equal are one class. A class is written as its
    most frequent raw form, because the official metric of VQAv2 compares raw text where all
    annotators agree.
    """

    answers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.answers)

    def save(self, path: Path) -> None:
        """Write the answers as a JSON list, whole or not at all."""
        write_atomically(path, self._to_json().encode())

    def _to_json(self) -> str:
        return f"{json.dumps(list(self.answers), ensure_ascii=False, indent=0)}\n"

    def require_readable(self) -> "Vocabulary":
        """Return itself; raise `ConfigError` if `load_vocabulary` would refuse what is saved.

        The training questions of a stranger's cache may have answers that no data set may have.
        """
        try:
            for answer in self.answers:
                text_of(answer, "the class of an answer")
        except UnusableError as error:
            raise ConfigError(
                f"{error}. Give the answers to learn by --answers, or mend the data set."
            ) from None
        if (size := len(self._to_json().encode())) > 2 * MOST_BYTES:
            raise ConfigError(
                f"the answers of the training questions are {size:,} bytes of text as classes, and "
                f"a head may have {2 * MOST_BYTES:,}; give a larger --min-answer-count"
            )
        return self


CHOICES = Vocabulary(())
"""That of a head that scores the choices of each question: it needs no answers."""


def build_vocabulary(
    answers: Iterable[Sequence[str]],
    *,
    min_count: int = 9,
    top: int | None = None,
    normalise: Normalise = normalise,
) -> Vocabulary:
    """Return the answers that are the majority of `min_count` questions or more, at most `top`.

    Answers that `normalise` makes equal are one; it is that of the metric.

    Raises:
        ConfigError: if no answer is frequent enough, or one is more than a run may keep.
    """
    counts: Counter[str] = Counter()
    forms: dict[str, Counter[str]] = {}
    # Many questions have the same answers, and normalising costs more than counting.
    for given, questions in Counter(map(tuple, answers)).items():
        if not given:
            continue
        # Of equally frequent answers the first given one is the majority: `most_common` says so.
        key = Counter(normalise(answer) for answer in given).most_common(1)[0][0]
        counts[key] += questions
        raw = forms.setdefault(key, Counter())
        for answer in given:
            if normalise(answer) == key:
                raw[answer] += questions
    ranked = _rank(counts)
    kept = [key for key in ranked if counts[key] >= min_count][:top]
    if not kept:
        most = f"the most frequent, {ranked[0]!r}, {counts[ranked[0]]} times" if ranked else "none"
        raise ConfigError(
            f"no answer is the majority of at least {min_count} training questions ({most}); "
            f"use --min-answer-count 1 for a small data set"
        )
    return Vocabulary(tuple(_rank(forms[key])[0] for key in kept)).require_readable()


def _rank(counts: Counter[str]) -> list[str]:
    """Return texts by falling count; equally frequent ones in the order of their characters."""
    return sorted(counts, key=lambda text: (-counts[text], text))


def load_vocabulary(path: Path) -> Vocabulary:
    """Read a file that `Vocabulary.save` wrote.

    Raises:
        RunError: if the file is missing or is no list of texts.
    """
    try:
        data = read_file(path, most=2 * MOST_BYTES)
        answers = decode(tuple[str, ...], finite_json(data))
        return Vocabulary(tuple(text_of(answer, "an answer") for answer in answers))
    except UnfitValueError as error:
        raise RunError(f"{path}: a JSON list of texts is needed ({error}); {RESTORE}") from None
    except UnusableError as error:
        raise RunError(f"{path}: {error}; {RESTORE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: not a readable answer vocabulary ({error}); {RESTORE}") from error


def read_vocabulary(path: Path, normalise: Normalise = normalise) -> Vocabulary:
    """Read a file of answers that a user gives.

    Raises:
        ConfigError: with file and line, if the file cannot be read, is not UTF-8, holds no answer,
            an empty line, or two answers that `normalise`, that of the metric, makes equal.
    """
    text = _read_text(path)
    is_json = text.lstrip()[:1] in ("[", "{")  # an object gets its own message
    place, entries = ("entry", _parse_list(path, text)) if is_json else ("line", _split_lines(text))
    if len(entries) > MOST_ANSWERS:
        raise ConfigError(
            f"{path}: there are {len(entries):,} answers in it, and a head may tell "
            f"{MOST_ANSWERS:,} apart; keep those that are frequent"
        )
    answers: list[str] = []
    first: dict[str, int] = {}
    for i, entry in enumerate(entries, start=1):
        try:
            answer = text_of(entry, f"{place} {i}")
        except UnusableError as error:
            raise ConfigError(f"{path}: {error}") from None
        if place == "line" and not answer:
            raise ConfigError(f"{path}: line {i} is empty; remove it")
        before = first.setdefault(normalise(answer), i)
        if before != i:
            raise ConfigError(
                f"{path}: {place} {i} ({answer!r}) is the same answer as {place} {before} "
                f"({answers[before - 1]!r}) to the metric; keep one of them"
            )
        answers.append(answer)
    if not answers:
        raise ConfigError(f"{path}: there is no answer in it; {NEEDED}")
    return Vocabulary(tuple(answers))


def _read_text(path: Path) -> str:
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


def _parse_list(path: Path, text: str) -> list[object]:
    try:
        found = parse_json(text)
    except NotJsonError as error:
        place = f"line {error.line}, " if str(error).startswith("column") else ""
        raise ConfigError(f"{path}: {place}{error}; {NEEDED}. {error.remedy}") from None
    if not isinstance(found, list):
        raise ConfigError(f"{path}: line 1 begins an object; {NEEDED}")
    return found


def _split_lines(text: str) -> list[str]:
    """Return the lines without the spaces around them, which nobody sees."""
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return lines[:-1] if lines[-1] == "" else lines  # the last line may end or not
