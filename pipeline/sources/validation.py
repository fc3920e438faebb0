"""The rules for the fields of a question, the same for all data sets.

A function raises `UnusableError` for a value that it refuses, which leaves out one question and no
other. A fault of a file, split or column is a `SourceError` and refuses the whole.
"""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache

from frozen_vqa.pipeline.sources.example import Id

NEARLY = 0.82
"""How alike a field has to be: "answr" and "Answers" are, "answer_id" and "answerable" are not."""


class UnusableError(Exception):
    """One question cannot be used; this error never leaves a source.

    The message is the reason, in the form of `LeftOut.reason`: it names no place.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(reason)
        self.where = where  # the place of the fault, if that is not the question's own


def require_fields(record: Mapping[str, object], fields: Sequence[str]) -> None:
    """Refuse a record that lacks one of `fields`."""
    if missing := [field for field in fields if field not in record]:
        there = ", ".join(shown(field) for field in list(record)[:8]) or "nothing"
        raise UnusableError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
            f"the fields are {there}"
        )


def refuse_nearly_named(record: Mapping[str, object], fields: Sequence[str]) -> None:
    """Refuse a record with a field that is nearly one of `fields`, which it lacks.

    Other fields are the owner's own. But a question with "answr" would be one without an answer.
    """
    lacking = tuple(field for field in fields if field not in record)
    for name in record:
        if name not in fields and (near := _near(name, lacking)):
            raise UnusableError(f"the field {shown(name)} is not known; did you mean {near!r}?")


@cache
def _near(name: str, fields: tuple[str, ...]) -> str | None:
    found = difflib.get_close_matches(name.strip().lower(), fields, n=1, cutoff=NEARLY)
    return found[0] if found else None


def text_of(value: object, field: str) -> str:
    """Return `value` if it is text without NUL and without half of a surrogate pair."""
    if not isinstance(value, str):
        raise UnusableError(f"{field} is {shown(value)}; text is needed")
    if not _can_be_stored(value):
        raise UnusableError(
            f"{field} {shown(value)} holds a NUL or half of a surrogate pair; remove that character"
        )
    return value


def question_of(value: object) -> str:
    """Return the text of a question, which must not be blank."""
    question = text_of(value, "question")
    if not question or question.isspace():
        raise UnusableError("question is blank; text is needed")
    return question


def type_of(value: object, field: str) -> str:
    """Return a question type or answer type; null is ""."""
    return "" if value is None else text_of(value, field)


def answers_of(value: object) -> tuple[str, ...]:
    """Return one answer or a list of them, each text or a number, as texts.

    A number becomes its text (2.0 is "2"); null means that there is no answer.
    """
    given = value if isinstance(value, list | tuple) else (value,)
    try:
        if _can_be_stored("".join(given)):
            return tuple(given)
    except TypeError:  # not all of them are texts
        pass
    return tuple(_answer(answer) for answer in given if answer is not None)


def id_of(value: object, field: str) -> Id:
    """Return `value` if it is an id that a cache can hold: text or a whole number of 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, str) and value:
        return text_of(value, field)
    raise UnusableError(f"{field} is {shown(value)}; text or a whole number of 64 bits is needed")


def id_or_none(value: object) -> Id | None:
    """Return `value` if it is an id, to name a question that cannot be used."""
    try:
        return id_of(value, "id")
    except UnusableError:
        return None


def shown(value: object) -> str:
    """Return a value for a message: short, and in characters that any terminal can print."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    text = json.dumps(value) if value is None or isinstance(value, bool) else ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _answer(answer: object) -> str:
    if isinstance(answer, int) and not isinstance(answer, bool):
        return str(answer)
    if isinstance(answer, float) and math.isfinite(answer):
        # Tables with gaps turn whole numbers into floats; beyond 2**53 they are no longer exact.
        whole = answer.is_integer() and abs(answer) < 2**53
        return str(int(answer)) if whole else str(answer)
    if isinstance(answer, str):
        return text_of(answer, "an answer")
    raise UnusableError(f"an answer is {shown(answer)}; text or a number is needed")


def _can_be_stored(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
