"""Folding over all of Unicode, against the golden file that Python 2.7 wrote.

`tests/support/python2_unicode.py` says how to make the file again.
"""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.metrics.python2_text import lower_words, strip
from frozen_vqa.pipeline.metrics.vqa_accuracy import normalise, question_score

GOLDEN = json.loads(Path(__file__).with_name("python2_unicode.json").read_bytes())
SPACES = set(GOLDEN["spaces"])
LOWER = {
    code: chr(code + shift)
    for first, last, step, shift in GOLDEN["lower"]
    for code in range(first, last + 1, step)
}
REMOVED = {ord(c) for c in ';/[]"{}()=+\\_-><@`,?!.'}
ARTICLE = {ord("a"), ord("A")}


def test_the_golden_file_is_of_python_2_and_all_of_unicode() -> None:
    assert GOLDEN["python"].startswith("2.7")
    assert GOLDEN["unicode"] == "5.2.0"
    assert GOLDEN["last"] == sys.maxunicode == 0x10FFFF
    assert len(LOWER) == 1029
    assert GOLDEN["digits"] == list(range(ord("0"), ord("9") + 1))


def test_every_code_point_is_folded_as_by_python_2() -> None:
    """Alone, and between letters, at which Python 3 would look."""
    every = range(sys.maxunicode + 1)
    folded = [" " if code in SPACES else LOWER.get(code, chr(code)) for code in every]
    expected = " ".join(f"{text} xy{text}z" for text in folded)
    found = lower_words(" ".join(f"{chr(code)} xY{chr(code)}Z" for code in every))
    assert found == [word for word in expected.split(" ") if word]


def test_every_code_point_is_stripped_as_by_python_2() -> None:
    stripped = [code for code in range(sys.maxunicode + 1) if not strip(chr(code))]
    assert set(stripped) == SPACES
    assert strip(f"{''.join(map(chr, stripped))}x\u200b{chr(stripped[-1])}") == "x\u200b"


def test_every_code_point_is_normalised_as_by_python_2() -> None:
    """`normalise` folds as these functions do; punctuation and articles it drops."""
    for code in {*LOWER, *SPACES, 0x37F, 0x10C7, 0x13A0, 0x1C90, 0xA7AA, 0x104B0, 0x1E900}:
        kept = code not in SPACES | REMOVED | ARTICLE
        text = chr(code)
        assert normalise(text) == (LOWER.get(code, text) if kept else "")


@given(st.lists(st.sampled_from(sorted({*LOWER, *SPACES, 0x3C2, 0x13A0, 0x307})), max_size=8))
def test_no_character_looks_at_its_neighbours(codes: list[int]) -> None:
    text = "".join(map(chr, codes))
    spaced = "".join(" " if c in SPACES else LOWER.get(c, chr(c)) for c in codes)
    assert lower_words(text) == [word for word in spaced.split(" ") if word]


@pytest.mark.parametrize(
    ("given_answer", "prediction", "score"),
    [
        ("İstanbul", "istanbul", 1.0),
        ("ΟΔΟΣ", "οδοσ", 1.0),
        ("ΟΔΟΣ", "οδος", 0.0),
        ("red\u180edog", "red dog", 1.0),
        ("\u180ered", "red", 1.0),
        ("\u13a0", "\uab70", 0.0),  # Cherokee got its small letters in Unicode 8
    ],
)
def test_scores_follow_python_2(given_answer: str, prediction: str, score: float) -> None:
    answers = [given_answer] * 9 + ["other"]
    assert question_score(prediction, answers, rules="2021") == pytest.approx(score)
