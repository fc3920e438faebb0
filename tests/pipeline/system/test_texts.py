"""Texts on their way out are harmless, and stay what they are."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.system.texts import markdown, printable, shortened, to_json
from tests.support.hostile import EVERY, is_harmless

any_text = st.one_of(
    st.text(st.characters(exclude_categories=())), st.sampled_from(sorted(EVERY.values()))
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=8,
)


@given(any_text)
def test_one_line_that_a_terminal_only_shows(text: str) -> None:
    found = printable(text)
    assert "\n" not in found
    assert is_harmless(found)
    found.encode()
    assert printable(found) == found


@pytest.mark.parametrize(
    "text",
    ["red", "größe", "می\u200cفت", "a\u00a0b", "犬\u3000猫", "👨\u200d👩\u200d👧", "\\x1b"],
)
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("a\udcff", r"a\udcff"),
        ("\0", r"\x00"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_not_is_spelled_out(text: str, expected: str) -> None:
    assert printable(text) == expected


@given(st.text(max_size=9), st.integers(1, 500), st.integers(602, 2000))
def test_a_long_text_keeps_its_ends(text: str, times: int, most: int) -> None:
    text *= times
    found = shortened(text, most)
    assert len(found) <= max(most, 0)
    assert found == text or (len(text) > most and found.endswith(text[-599:]))
    assert text.startswith(found.partition(" … ")[0]) or found == text


@given(values)
def test_json_is_valid_for_every_program(value: Any) -> None:
    """No text of it has half of a surrogate pair, and the rest is as it was."""
    text = to_json(value)
    assert text.isascii()
    found = json.loads(text)
    json.dumps(found, ensure_ascii=False).encode()
    if json.dumps(value, ensure_ascii=False).isascii():
        assert found == value


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": float("nan")})


@given(any_text)
def test_markdown_has_no_mark_of_its_own(text: str) -> None:
    """Every character that could mean something has a backslash; without them it is the text."""
    found = markdown(text)
    plain = re.sub(r"\\(.)", r"\1", found)
    assert plain == printable(text)
    assert not re.search(r"[\\`*_{}\[\]<>|#~&$]", re.sub(r"\\.", "", found))
