"""The two normalisations of VQA, where they differ."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.metrics import vqa_accuracy
from frozen_vqa.pipeline.metrics.named import textvqa


@pytest.mark.parametrize(
    ("text", "by_the_tool", "by_the_processor"),
    [
        ("no,thanks", "no thanks", "nothanks"),
        ("3,000-4,000", "30004000", "3000 4000"),
        ("2,5 x-y", "25 xy", "25 x y"),
        ("b?c", "b c", "bc"),
        ("denny's", "denny's", "denny 's"),
        ("It's", "it's", "it 's"),
        ("12,000", "12000", "12000"),
        ("why ?", "why", "why"),
        ("dont", "don't", "don't"),
        ("e-mail", "e mail", "e mail"),
        ("4:15 a.m.", "4:15 am", "4:15 am"),
        ("The one", "1", "1"),
    ],
)
def test_the_two_normal_forms(text: str, by_the_tool: str, by_the_processor: str) -> None:
    assert vqa_accuracy.normalise(text) == by_the_tool
    assert textvqa.normalise(text) == by_the_processor


@given(st.text(st.characters(codec="ascii", exclude_characters=",?'"), max_size=20))
@settings(max_examples=100, deadline=None)
def test_without_commas_question_marks_and_apostrophes_they_are_equal(text: str) -> None:
    assert textvqa.normalise(text) == vqa_accuracy.normalise(text)


def test_unanimous_answers_are_normalised_too() -> None:
    metric = textvqa.METRICS[0]
    assert metric.score("Two", ["2"] * 10) == 1.0
    assert vqa_accuracy.question_score("Two", ["2"] * 10, rules="2021") == 0.0
