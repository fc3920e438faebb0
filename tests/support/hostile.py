"""Texts that could harm a terminal, a table, JSON or a page, and what must be found of them."""

import os
import re
import unicodedata
from itertools import zip_longest

from frozen_vqa.pipeline.system.texts import printable

STORED = {
    "colour": "\x1b[31mred\x1b[0m",
    "title of the window": "\x1b]0;owned\x07",
    "eight-bit escape": "\x9b2J",
    "line break": "a\nerror: b",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "backspace": "no\b\byes",
    "line separator": "a\u2028b",
    "override": "\u202egnp.a",
    "isolate": "\u2066a\u2069",
    "mark": "a\u200f!",
    "zero width": "a\u200bb",
    "byte order mark": "\ufeffa",
    "markup": "[red]a[/red]",
    "closing markup": "[/]",
    "link": "[a](javascript:b)",
    "emoji code": ":smile:",
    "table": "a | b",
    "HTML": "<!-- <b>a",
    "code": "a`b``c```",
    "emphasis": "*a* __b__ ~~c~~ #d &lt; $e$",
    "LaTeX": "\\input{a} 100% {_}",
    "backslash": "\\x1b",
    "Persian": "می\u200cفت",
    "Hebrew": "שלום (a)",
    "no-break space": "a\u00a0b\u3000c",
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "accents": "e" + "\u0301" * 20,
    "very long": "long" * 100,
    "blank": "   ",
}
"""Texts that a cache can hold: no NUL, and no half of a surrogate pair."""

PATHS = {name: text for name, text in STORED.items() if len(text) < 100 and "/" not in text} | {
    "not UTF-8": os.fsdecode(b"a\xff\xfe"),
}
"""Names of files and folders."""

EVERY = STORED | PATHS | {"NUL": "a\0b", "half of a pair": "a\ud83d", "two halves": "\udc00\ud800"}


def is_harmless(printed: str) -> bool:
    """Whether a terminal only shows these lines: nothing moves, turns, hides or colours them."""
    return all(
        c == "\n" or c.isprintable() or c in "\u200c\u200d" or unicodedata.category(c) == "Zs"
        for c in printed
    )


def shows(printed: str, text: str) -> bool:
    """Whether a text stands whole in what was printed, in a table or not."""
    rows = [re.split("[│┃]", line) for line in printed.splitlines()]
    columns = zip_longest(*(row for row in rows if row[1:]), fillvalue="")
    outside = "".join(row[0] for row in rows if not row[1:])
    return any(_bare(printable(text)) in _bare(part) for part in (outside, *map("".join, columns)))


def _bare(text: str) -> str:
    """Without spaces, because a table breaks lines at them."""
    return "".join(text.split())
