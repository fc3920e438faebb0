"""The bounds of a head before one is trained, for every metric."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.answers.bounds import Bounds, find_bounds
from frozen_vqa.pipeline.answers.vocabulary import build_vocabulary
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.metrics.metric import Annotation

some_answers = st.lists(
    st.sampled_from(["2", "Two", "a dog", "t-shirt", "Yes", "yes", "1,000", "是", "a, b"]),
    min_size=1,
    max_size=10,
)


@given(
    st.lists(some_answers, min_size=1, max_size=3),
    st.lists(st.tuples(some_answers, st.sampled_from(["yes", "no"])), min_size=1, max_size=6),
    st.sampled_from(list(METRICS)),
)
@settings(max_examples=60, deadline=None)
def test_bounds_are_those_of_a_loop_over_all_classes(
    frequent: list[list[str]], asked: list[tuple[list[str], str]], name: str
) -> None:
    metric = METRICS[name]
    training = [Annotation(i, tuple(given)) for given in frequent for i in range(9)]
    split = [
        Annotation(i, tuple(given), groups={"balanced": yes, "difficult": yes})
        for i, (given, yes) in enumerate(asked)
    ]
    found = find_bounds(training, {"val": split, "test": [Annotation(0, ())]}, metric)

    known = build_vocabulary(map(metric.given, training), normalise=metric.normalise).answers
    given = [metric.given(one) for one in split if metric.counts(one)]
    scores = [[metric.score(answer, answers) for answers in given] for answer in known]
    if not given:
        assert found == {}
        return
    assert list(found) == ["val"]
    means = [sum(row) / len(row) for row in scores]
    best = [max(column) for column in zip(*scores, strict=True)]
    one = found["val"]
    assert one.floor == pytest.approx(metric.percent(max(means)))
    assert one.floor == pytest.approx(metric.percent(means[known.index(one.usual)]))
    assert one.ceiling == pytest.approx(metric.percent(sum(best) / len(best)))
    assert one.classes == len(known)


def test_with_choices_the_floor_is_a_guess() -> None:
    def asked(choices: str) -> Annotation:
        return Annotation(1, (), choices=tuple(choices), right=0)

    found = find_bounds([asked("ab")], {"val": [asked("ab"), asked("abcde")]}, METRICS["scienceqa"])
    assert found == {"val": Bounds(floor=pytest.approx(35.0), ceiling=100.0)}


def test_without_a_frequent_answer_there_are_no_classes() -> None:
    rare = [Annotation(i, (str(i),)) for i in range(9)]
    with pytest.raises(ConfigError, match="no answer is the majority of at least 9 training"):
        find_bounds(rare, {"train": rare}, METRICS["gqa"])
