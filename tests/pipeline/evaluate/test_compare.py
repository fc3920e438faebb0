"""Paired differences: signs, groups, and what cannot be compared."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.compare import Difference, compare
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
from frozen_vqa.pipeline.evaluate.statistics import (
    Interval,
    SignFlip,
    mean_interval,
    sign_flip,
)
from tests.support.evaluations import (
    ANSWER_TYPES,
    PICTURES,
    QUESTION_TYPES,
    QUESTIONS,
    group,
    make_evaluation,
    make_heads,
)


@pytest.fixture
def heads() -> tuple[Evaluation, Evaluation]:
    return make_heads()


def sides(heads: tuple[Evaluation, Evaluation]) -> tuple[SeedGroup, SeedGroup]:
    return group(heads[0]), group(heads[1])


def test_differences_are_those_of_a_loop(heads: tuple[Evaluation, Evaluation]) -> None:
    ours, theirs = heads
    assert ours.scores is not None
    assert theirs.scores is not None
    types = {"answer type": ANSWER_TYPES, "question type": QUESTION_TYPES}
    for row in compare(group(ours), group(theirs)):
        rows = [
            i for i in range(QUESTIONS) if row.kind == "overall" or types[row.kind][i] == row.group
        ]
        mine, other = 100 * ours.scores[rows], 100 * theirs.scores[rows]
        assert row.questions == len(rows)
        assert row.ours == pytest.approx(mine.mean())
        assert row.theirs == pytest.approx(other.mean())
        assert row.difference == pytest.approx(mine.mean() - other.mean())
        asked = PICTURES[rows]
        assert row.interval == mean_interval(mine - other, asked, least=-100, largest=100)
        assert row.test == sign_flip(mine, other, asked)
        assert row.ours_sd is row.theirs_sd is None


def test_groups_come_by_kind_and_size(heads: tuple[Evaluation, Evaluation]) -> None:
    """Equally frequent ones by name; questions without a type are in no group but the whole."""
    assert [(row.kind, row.group, row.questions) for row in compare(*sides(heads))] == [
        ("overall", "overall", 240),
        ("answer type", "yes/no", 210),
        ("answer type", "other", 18),
        ("answer type", "number", 10),
        ("question type", "is [the]", 200),
        ("question type", "how many", 20),
        ("question type", "what", 20),
    ]


def test_signs(heads: tuple[Evaluation, Evaluation]) -> None:
    """Positive is for the first head; swapped, everything changes its sign."""
    rows, swapped = compare(*sides(heads)), compare(*sides(heads)[::-1])
    (number,) = (row for row in rows if row.group == "number")
    assert number.difference > 60
    assert number.interval.bounds is None  # of four pictures
    assert rows[0].interval.bounds is not None
    low, high = rows[0].interval.bounds
    assert low < rows[0].difference < high
    for row, back in zip(rows, swapped, strict=True):
        assert back.difference == pytest.approx(-row.difference)
        assert back.test.p == row.test.p
        assert (back.ours, back.theirs) == (row.theirs, row.ours)


def test_a_head_against_itself(heads: tuple[Evaluation, Evaluation]) -> None:
    for row in compare(group(heads[0]), group(heads[0])):
        assert row.difference == 0
        assert row.interval.bounds is None
        assert row.test == SignFlip(0, 0, 1.0)


def test_pairs_are_tighter_than_two_intervals() -> None:
    """Heads that differ by about a point everywhere differ for sure, however hard questions are."""
    rng = np.random.default_rng(0)
    scores = rng.choice([0.0, 0.9], QUESTIONS)
    better = scores + rng.choice([0.005, 0.015], QUESTIONS)
    (overall, *_) = compare(
        group(make_evaluation("a", better)), group(make_evaluation("b", scores))
    )
    assert overall.difference == pytest.approx(1, abs=0.2)
    assert overall.interval.bounds == pytest.approx((overall.difference,) * 2, abs=0.2)
    assert overall.test.p < 0.001


def test_heads_that_answered_other_questions_are_refused(
    heads: tuple[Evaluation, Evaluation],
) -> None:
    other = make_evaluation("elsewhere", heads[1].scores, first_id=1)
    message = "ours and elsewhere did not answer the same questions"
    with pytest.raises(MetricError, match=message):
        compare(group(heads[0]), group(other))
    table = heads[1].table
    shuffled = replace(heads[1], table=replace(table, question_ids=table.question_ids[::-1]))
    with pytest.raises(MetricError, match="did not answer the same questions"):
        compare(group(heads[0]), group(shuffled))


def test_predictions_alone_cannot_be_compared(heads: tuple[Evaluation, Evaluation]) -> None:
    nothing = make_evaluation("nothing", None)
    for pair in itertools.permutations((heads[0], nothing)):
        with pytest.raises(
            MetricError, match=r"split 'val' has no answers, so nothing .* cannot be compared"
        ):
            compare(*map(group, pair))


def test_json_has_hundredths() -> None:
    test, interval = SignFlip(4, 20, 0.00154399871), Interval((-1.23456, 0.98765))
    row = Difference("what", "question type", 3, 1 / 3, 2 / 3, -1 / 3, interval, test)
    assert row.to_json() == {
        "group": "what",
        "kind": "question type",
        "questions": 3,
        "ours": 0.33,
        "theirs": 0.67,
        "difference": -0.33,
        "interval": [-1.23, 0.99],
        "ours_better": 4,
        "theirs_better": 20,
        "p": 0.0015,
        "ours_sd": None,
        "theirs_sd": None,
    }
