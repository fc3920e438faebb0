"""Pieces are joined to the words of the question, and attention still adds up to 1."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.report.words import END, START, join_pieces, read_words, words_of
from tests.support.caches import Row, make_cache


def test_words_of_pieces() -> None:
    question = "Is it an ele-phant's?"
    spans = [(0, 2), (2, 5), (5, 8), (8, 12), (12, 13), (13, 18), (18, 20), (20, 21)]
    words = join_pieces(question, spans)
    assert words.texts == (START, "Is", "it", "an", "ele", "-", "phant's", "?")
    assert words.pieces == (1, 1, 1, 1, 1, 1, 2, 1)
    assert words.spaced == (False, False, True, True, True, False, False, False)


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    """A text, and pieces that cover it; a letter of several bytes may be several pieces."""
    text = draw(st.text(min_size=1, max_size=30))
    cuts = draw(st.sets(st.integers(1, len(text)), max_size=len(text)))
    edges = sorted({0, len(text), *cuts})
    spans = list(pairwise(edges))
    again = draw(st.integers(0, len(spans) - 1))
    if spans[again][1] - spans[again][0] == 1:
        spans.insert(again, spans[again])
    return text, spans


@settings(max_examples=40, deadline=None)
@given(cut_texts())
def test_all_letters_and_all_pieces_are_in_a_word(case: tuple[str, list[tuple[int, int]]]) -> None:
    text, spans = case
    words = join_pieces(text, spans)
    assert sum(words.pieces) == 1 + len(spans)
    shown = "".join(words.texts[1:]).replace("␣", "")
    assert "".join(shown.split()) == "".join(text.replace("␣", "").split())
    weights = np.random.default_rng(0).dirichlet(np.ones(6), (1 + len(spans), 2))
    assert words.mean(weights).sum(-1) == pytest.approx(1)
    over_tokens = weights / weights.sum(0)
    assert words.sum(over_tokens).sum(0) == pytest.approx(1)
    assert len(words.sum(weights)) == len(words.texts) == len(words.spaced)


def test_without_the_tokenizer_tokens_are_numbered(tmp_path: Path) -> None:
    made = make_cache(tmp_path / "cache", {"val": [Row(0, i) for i in range(4)]})
    words, amiss = read_words(FeatureCache(made.directory), [2, 0])
    assert words[2].texts == (START, "1", "2")
    assert words[0].texts == (START,)
    assert "numbered instead of named, because made-up-text: the tokenizer" in amiss


def test_a_token_after_the_question_is_a_word_of_its_own() -> None:
    """As models that read both ways have."""
    question, spans = "a dog?", [(0, 1), (1, 5), (5, 6)]
    assert words_of(question, spans, 4).texts == (START, "a", "dog", "?")
    ended = words_of(question, spans, 5)
    assert ended.texts == (START, "a", "dog", "?", END)
    assert ended.sum(np.arange(5.0)).tolist() == [0, 1, 2, 3, 4]
    assert words_of(question, spans, 6).texts == (START, "1", "2", "3", "4", "5")
