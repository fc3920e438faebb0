"""The rules for the fields of a question, the same for all data sets.

A function raises `UnusableError` for a value that it refuses, which leaves out one question and no
other. A fault of a file, split or column is a `SourceError` and refuses the whole. So is an answer
in a form that is not known: files have one form throughout, and one that is guessed wrong would
give other answers, or none, without a word.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from frozen_vqa.pipeline.sources.example import Id, VqaExample

LONGEST = 100_000
"""Characters of a question, an answer, an id or any other text."""


class UnusableError(Exception):
    """One question cannot be used; this error never leaves a source.

    The message is the reason, in the form of `LeftOut.reason`: it names no place.
    """

    where = ""  # the place of the fault, if that is not the question's own


class UnknownFormError(UnusableError):
    """The answers of one question have a form that is not known, which stops the source."""


def make_example(fields: Mapping[str, Any], *, blanks: bool = False) -> VqaExample:
    """Return the question that has these fields, named as those of `VqaExample`.

    What is absent or null is not given; answers may also stand under "answer". If none are given,
    the right choice is the answer.

    Args:
        blanks: Whether some of the answers may be blank, because a few of the data set's are.

    Raises:
        UnusableError: if a field is not valid.
    """
    get = fields.get
    question_id, image_id = (
        id_of(get("question_id"), "question_id"),
        id_of(get("image_id"), "image_id"),
    )
    question = question_of(get("question"))
    answers = answers_of(get("answers"), blanks=blanks) or answers_of(get("answer"))
    question_type = type_of(get("question_type"), "question_type")
    answer_type = type_of(get("answer_type"), "answer_type")
    groups = {name: type_of(group, name) for name, group in (get("groups") or {}).items()}
    choices = tuple(text_of(one, "a choice") for one in list_of(get("choices"), "choices"))
    right = get("right_choice")
    if right is not None and (type(right) is not int or not 0 <= right < len(choices)):
        raise UnusableError(
            f"the right choice is {shown(right)}; one of {len(choices)}, counted from 0, is needed"
        )
    return VqaExample(
        question_id,
        image_id,
        question,
        answers or (() if right is None else (choices[right],)),
        question_type,
        answer_type,
        groups={name: group for name, group in groups.items() if group},
        choices=choices,
        right_choice=right,
        more_images=tuple(
            id_of(one, "image_id") for one in list_of(get("more_images"), "more_images")
        ),
    )


def list_of(value: object, field: str) -> Sequence[Any]:
    """Return a list; null is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise UnusableError(f"{field} is {shown(value)}; a list is needed")
    return value


def require_fields(record: Mapping[str, object], fields: Sequence[str]) -> None:
    """Refuse a record that lacks one of `fields`."""
    if missing := [field for field in fields if field not in record]:
        there = ", ".join(shown(field) for field in list(record)[:8]) or "nothing"
        raise UnusableError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
            f"the fields are {there}"
        )


def text_of(value: object, field: str) -> str:
    """Return `value` if it is text without NUL and without half of a surrogate pair."""
    if not isinstance(value, str):
        raise UnusableError(f"{field} is {shown(value)}; text is needed")
    if len(value) > LONGEST:
        raise UnusableError(f"{field} has {len(value):,} characters; the limit is {LONGEST:,}")
    if not _can_be_stored(value):
        raise UnusableError(
            f"{field} {shown(value)} holds a NUL or half of a surrogate pair; remove that character"
        )
    return str(value)  # code of one's own may give a subclass


def question_of(value: object) -> str:
    """Return the text of a question, which must not be blank."""
    question = text_of(value, "question")
    if not question or question.isspace():
        raise UnusableError("question is blank; text is needed")
    return question


def type_of(value: object, field: str) -> str:
    """Return a question type or answer type; null is ""."""
    return "" if value is None else text_of(value, field)


def answers_of(value: object, *, blanks: bool = False) -> tuple[str, ...]:
    """Return the answers of a question, in one of the forms that are known.

    They are a text, a list of texts, a list of objects with a text "answer" (VQAv2), or an object
    whose "answer" is a text or a list of texts (older sets of `datasets`). An empty list has no
    answer, and so has null, which tables and many writers of JSON put where a field is absent. An
    answer may be blank with `blanks`.

    Raises:
        UnknownFormError: if the answers have another form, such as a number or null in a list.
    """
    inner = value["answer"] if _has_answer(value) else value
    if inner is None:
        return ()
    given = inner if isinstance(inner, list | tuple) else (inner,)
    if isinstance(value, list | tuple):
        given = [one["answer"] if _has_answer(one) else one for one in given]
    for one in given:
        if not isinstance(one, str) or ((not one or one.isspace()) and not blanks):
            raise UnknownFormError(
                f"an answer is {_form(one)}; answers are a text, a list of texts, or objects with "
                'a text "answer"'
            )
    if len(joined := "".join(given)) > LONGEST or not _can_be_stored(joined):
        for one in given:
            text_of(one, "an answer")
    return tuple(map(str, given))


def id_of(value: object, field: str) -> Id:
    """Return `value` if it is an id that a cache can hold: text or a whole number of 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return int(value)
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


def _has_answer(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict) and "answer" in value


def _form(value: object) -> str:
    if isinstance(value, str):
        return "an empty text"
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, dict):
        keys = ", ".join(shown(key) for key in list(value)[:4])
        return f"an object with {keys}" if keys else "an empty object"
    return shown(value)


def _can_be_stored(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
