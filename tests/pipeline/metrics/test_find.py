"""What holds of every metric."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary, build_vocabulary
from frozen_vqa.pipeline.commands.parse.shared import MetricName
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.find import LAYOUTS, METRICS, find_metric, pick_metric
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered

TEXTS = ["2", "two", "Two", "a dog", "dog", "t-shirt", "Yes", "yes", "it's", "1,000", "是", "a, b"]
some_texts = st.sampled_from(TEXTS) | st.text(max_size=6)
some_answers = st.lists(some_texts, min_size=1, max_size=12)
names = st.sampled_from(list(METRICS))


@pytest.mark.parametrize(
    ("counts", "requested", "expected"),
    [
        ([10, 10], None, "2021"),
        ([10, 11], None, "2021"),
        ([10, 9], None, "plain"),
        ([0], None, "plain"),
        ([10, 10], "2017", "2017"),
        ([1], "2021", "2021"),
        ([10], "plain", "plain"),
        ([10], "vizwiz", "vizwiz"),
        ([10], "", "2021"),
    ],
)
def test_pick_metric(counts: list[int], requested: str | None, expected: str) -> None:
    assert pick_metric(counts, requested).name == expected
    assert pick_metric(counts, None, requested, "clevr" if requested else None).name == expected


def test_find_metric() -> None:
    assert all(find_metric(name) is metric for name, metric in METRICS.items())
    with pytest.raises(MetricError, match="unknown metric 'vizwitz'; did you mean 'vizwiz'"):
        find_metric("vizwitz")
    with pytest.raises(MetricError, match=r"unknown metric '\?'; known are: 2021, 2017, plain,"):
        find_metric("?")


def test_the_command_line_has_each_metric() -> None:
    assert set(get_args(MetricName)) == set(METRICS)


def test_each_layout_is_told_from_the_others() -> None:
    """By its place in a file and the keys of an entry."""
    forms = {one.form: one for one in LAYOUTS}.values()  # one form has two metrics
    seen = {(one.place, bool(one.lines), frozenset(one.form.__required_keys__)) for one in forms}
    assert len(seen) == len(forms) == len(LAYOUTS) - 1
    assert {one.metric for one in LAYOUTS if one.metric} <= set(METRICS)


@given(some_texts, some_answers, names, st.randoms())
@settings(max_examples=60, deadline=None)
def test_a_score_is_a_share_and_ignores_order(
    said: str, answers: list[str], name: str, random: object
) -> None:
    score = METRICS[name].score
    mixed = list(answers)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for guess in (said, answers[0]):
        assert 0.0 <= score(guess, answers) <= 1.0
        assert score(guess, mixed) == pytest.approx(score(guess, answers), abs=1e-12)


@given(st.lists(some_answers, min_size=1, max_size=5), names)
@settings(max_examples=40, deadline=None)
def test_targets_and_ceilings(asked: list[list[str]], name: str) -> None:
    """No target is above the best score of any text, and no class above the ceiling."""
    metric = METRICS[name]
    vocabulary = build_vocabulary(asked, min_count=1, normalise=metric.normalise)
    found = class_scores(asked, vocabulary, metric=metric)
    best = found.best()
    for row, given_answers in enumerate(asked):
        _, classes, targets = found.sparse(np.array([row]))
        every = [
            metric.score(text, given_answers) for text in (*given_answers, *vocabulary.answers)
        ]
        assert all(0 <= target <= 1 for target in targets)
        if metric.soft is None:
            assert max(targets, default=0) <= max(every) + 1e-6
        for index, answer in enumerate(vocabulary.answers):
            score = metric.score(answer, given_answers)
            assert score <= best[row] + 1e-12
            predicted = [index] * len(asked)
            assert found.score(np.array(predicted))[row] == pytest.approx(score)
        assert len(set(classes.tolist())) == len(classes)


@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS))
@settings(max_examples=60, deadline=None)
def test_what_scores_as_equal_is_one_class(said: str, answer: str) -> None:
    """Where one given answer decides, the score is whether the normal forms are equal."""
    by_count = {"2021", "2017", "vizwiz", "textvqa", "aokvqa-da"}
    for name in set(METRICS) - by_count:
        normalise = METRICS[name].normalise
        assert METRICS[name].score(said, [answer]) == (normalise(said) == normalise(answer)), name


@given(st.integers(1, 11), st.integers(1, 12), names)
@settings(max_examples=60, deadline=None)
def test_a_soft_target_is_the_score_where_the_answers_differ(
    matches: int, others: int, name: str
) -> None:
    metric = METRICS[name]
    if metric.soft is not None and metric.soft_is_score:
        given_answers = ["dog"] * matches + [f"other {i}" for i in range(others)]
        score = metric.score("dog", given_answers)
        assert metric.soft(matches, len(given_answers)) == pytest.approx(score, abs=1e-12)


def test_where_there_are_choices_a_guess_is_a_figure() -> None:
    question = Annotation(1, (), choices=("a", "b", "c", "d"), right=0, record={})
    choosing = {
        name: one.figures([Answered(question, "a", 1.0)])
        for name, one in METRICS.items()
        if one.chooses
    }
    assert set(choosing) == {"choice", "aokvqa", "visual7w", "scienceqa"}
    assert [found["chance"].value for found in choosing.values()] == [25.0] * 4


def test_answers_that_a_metric_tells_apart_are_classes_of_their_own() -> None:
    asked = [["T-shirt"], ["t shirt"], ["Lung, Liver"], ["是"], ["yes"]]

    def classes(name: str) -> int:
        return len(build_vocabulary(asked, min_count=1, normalise=METRICS[name].normalise))

    assert (classes("gqa"), classes("2021"), classes("slake")) == (5, 4, 3)


def test_each_of_equal_classes_is_scored() -> None:
    """A file of answers for one metric may have texts that another takes for one."""
    found = class_scores(
        [["dog"] * 3], Vocabulary(("a dog", "dog", "cat")), metric=METRICS["plain"]
    )
    assert found.classes.tolist() == [0, 1]
    assert found.targets.tolist() == found.scores.tolist() == [1.0, 1.0]
