"""Which column of a table, or key of a JSON object, is which field of a question.

Names count without their case, spaces, hyphens and underscores: "Question ID" is `question_id`.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from frozen_vqa.pipeline.sources.validation import shown

ALIASES: dict[str, tuple[str, ...]] = {
    "image": (
        *("image", "img", "picture", "image_path", "img_path", "image_file", "img_file"),
        *("image_name", "img_name", "file_name"),
    ),
    "question": ("question",),
    "answers": ("answers",),
    "answer": ("answer",),
    "question_id": ("question_id", "qid"),
    "image_id": ("image_id", "img_id"),
    "question_type": ("question_type",),
    "answer_type": ("answer_type",),
    "split": ("split",),
}
"""The names of each field; if a record has several of them, the first one counts."""

NEEDED = ("image", "question")

NEARLY = 0.82
"""How alike a name has to be: "answr" and "anwser" are, "answer_id" and "answerable" are not."""


def plain(name: str) -> str:
    """Return a name as it is compared."""
    return re.sub(r"[\s_-]+", "", name).casefold()


_FIELDS = {plain(alias): field for field, names in ALIASES.items() for alias in names}
_RANKS = {plain(alias): i for names in ALIASES.values() for i, alias in enumerate(names)}


def field_of(name: str) -> str | None:
    """Return the field that a column of this name has; None if it is the owner's own."""
    return _FIELDS.get(plain(name))


LOOKED_AT = 200
"""Columns that are compared with the names of fields, letter by letter, which takes long."""


@dataclass(frozen=True)
class Columns:
    """The columns of a record: that of each field which is there, and what is wrong with them.

    A column that is nearly named as a field that is missing is a fault. It may be the owner's own,
    but a question with "anwser" would be one without an answer.
    """

    found: Mapping[str, str]
    fault: str = ""


@lru_cache(maxsize=1024)  # most records of a file have the same columns
def find_columns(names: tuple[str, ...], given: tuple[tuple[str, str], ...] = ()) -> Columns:
    """Return the columns among `names`; `given` has those named by hand, by field, "" for none."""
    by_hand = dict(given)
    found = {field: name for field, name in given if name}
    fault = ""
    for name in sorted(names, key=lambda name: _RANKS.get(plain(name), 0)):
        field = field_of(name)
        if field and field not in by_hand and name not in by_hand.values():
            first = found.setdefault(field, name)
            if first != name and plain(first) == plain(name):
                fault = f"{shown(first)} and {shown(name)} are both the {field}"
    known = {*found, *by_hand}
    return Columns(found, fault or _nearly_named(names, found, known) or _missing(names, found))


def _nearly_named(names: Sequence[str], found: Mapping[str, str], known: Collection[str]) -> str:
    lacking = {plain(one): one for f, ones in ALIASES.items() if f not in known for one in ones}
    for name in names[:LOOKED_AT]:
        near = difflib.get_close_matches(plain(name), lacking, n=1, cutoff=NEARLY)
        if near and name not in found.values() and not field_of(name):
            return f"the field {shown(name)} is not known; did you mean {lacking[near[0]]!r}?"
    return ""


def _missing(names: Sequence[str], found: Mapping[str, str]) -> str:
    missing = [found.get(field, field) for field in NEEDED if found.get(field) not in names]
    there = ", ".join(shown(name) for name in names[:8]) or "nothing"
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} missing; the fields are {there}" if missing else ""
