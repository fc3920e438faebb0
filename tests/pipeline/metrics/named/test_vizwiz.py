"""VizWiz: what is normalised, and how sure a head is that there is no answer."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.metrics.metric import Annotation, Answered
from frozen_vqa.pipeline.metrics.named import vizwiz

METRIC = vizwiz.METRICS[0]


@pytest.mark.parametrize(
    ("said", "given_answer", "score"),
    [
        ("Jeans.", "jeans", 1.0),
        ("jeans", "Jeans", 0.0),  # what was given stays as written
        ("t-shirt", "t-shirt", 0.0),
        ("t-shirt", "t shirt", 1.0),
        ("wont", "won’t", 1.0),  # curly in the table of contractions
        ("wont", "won't", 0.0),
        ("won't", "won't", 1.0),  # no key of the table, so it stays
        ("cant", "can't", 1.0),  # one of the eight that are straight there
        ("hadn'tve", "hadn’t’ve", 1.0),
        ("somebodyd", "somebody’d", 1.0),
    ],
)
def test_only_the_prediction_is_normalised(said: str, given_answer: str, score: float) -> None:
    assert METRIC.score(said, [given_answer] * 10) == score


def test_equal_dictionaries_are_left_out_one_at_a_time() -> None:
    assert METRIC.score("tea", ["tea"] + ["no"] * 9) == pytest.approx(0.3)
    assert METRIC.score("tea", ["tea"] * 3 + ["no"] * 7) == pytest.approx(0.9)


def answered(rows: list[tuple[int, Any]]) -> list[Answered]:
    groups = ({"answerable": "no"}, {"answerable": "yes"})
    return [
        Answered(Annotation(i, ("tea",), groups=groups[answerable]), "tea", 1.0, entry)
        for i, (answerable, entry) in enumerate(rows)
    ]


def test_the_threshold_of_f1_is_strict() -> None:
    """One of two is found: 1 - 0.5 is not above one half."""
    rows = [(0, {"answerable": 0.5}), (0, {"answerable": 0.4}), (1, {"answerable": 0.9})]
    figures = METRIC.figures(answered(rows))
    assert figures["unanswerable, F1"].value == pytest.approx(100 * 2 / 3)
    assert figures["unanswerable, F1"].questions == 3


@pytest.mark.parametrize("entry", [{}, {"answerable": "0.5"}, {"answerable": True}])
def test_there_is_no_figure_without_all_confidences(entry: dict[str, Any]) -> None:
    assert METRIC.figures(answered([(0, {"answerable": 0.5}), (1, entry)])) == {}


def by_thresholds(true: list[bool], sure: list[float]) -> float:
    """Σ (Rₙ - Rₙ₋₁) Pₙ, from sets of everything that is at least so sure."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(sure), reverse=True):
        found = [one for one, value in zip(true, sure, strict=True) if value >= threshold]
        recall = sum(found) / sum(true)
        total += (recall - before) * sum(found) / len(found)
        before = recall
    return total


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])), min_size=1))
@settings(max_examples=60, deadline=None)
def test_average_precision(rows: list[tuple[bool, float]]) -> None:
    true, sure = [one for one, _ in rows], [value for _, value in rows]
    wanted = by_thresholds(true, sure) if any(true) else 0.0
    assert vizwiz.average_precision(true, sure) == pytest.approx(wanted, abs=1e-12)
