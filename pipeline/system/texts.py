"""Texts of strangers on their way out: harmless on a terminal, valid in JSON, plain in Markdown.

A path need not be UTF-8, an answer can hold a terminal's escapes, and a name a line break. What
could do harm is spelled out, as in '\\x1b'; all else stays, in whatever script it is.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_JOINERS = "\u200c\u200d"  # part of words in Persian and Hindi, and of emoji
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~&$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""Letters with a meaning, and those that make a link of an address."""


def printable(text: str) -> str:
    """Return a text as one line that a terminal shows and does not obey.

    Spelled out are line breaks, tabs and all other control characters, those that turn the
    direction of writing, invisible ones, and bytes of a path that are not UTF-8.
    """
    return text if text.isprintable() else "".join(c if _is_shown(c) else _spell(c) for c in text)


def _is_shown(c: str) -> bool:
    return c.isprintable() or c in _JOINERS or unicodedata.category(c) == "Zs"


def _spell(c: str) -> str:
    return ascii(c)[1:-1]


def valid(value: Any) -> Any:
    """Return a value for JSON in which halves of surrogate pairs are spelled out.

    JSON in UTF-8 cannot hold them, so other programs would refuse the whole of it.
    """
    if isinstance(value, str):
        return _SURROGATES.sub(lambda half: _spell(half[0]), value)
    if isinstance(value, dict):
        return {valid(name): valid(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [valid(part) for part in value]
    return value


def to_json(value: Any, **how: Any) -> str:
    """Return a value as JSON that any program reads, in ASCII; NaN raises `ValueError`."""
    return json.dumps(valid(value), allow_nan=False, **how)


def markdown(text: str) -> str:
    """Return a text that stands in a cell or a line of Markdown as it is."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def markdown_table(table: Sequence[Sequence[str]], *, others: str = "---") -> str:
    """Return a table, the header first; `others` aligns all columns but the first."""
    head, *rows = (f"| {' | '.join(map(markdown, row))} |\n" for row in table)
    rule = ["---"] + [others] * (len(table[0]) - 1)
    return "".join([head, f"| {' | '.join(rule)} |\n", *rows])
