"""The made-up splits of the simulation are what it says of them."""

import itertools

import numpy as np
import pytest

from benchmarks.statistics import (
    ACCURACIES,
    SHARES,
    SIZES,
    draw,
    mcnemar_p,
    measure_intervals,
    measure_tests,
)


@pytest.mark.parametrize(("accuracy", "kind"), SHARES)
@pytest.mark.parametrize("size", SIZES)
def test_a_sample_has_its_accuracy_and_its_worth(accuracy: int, kind: str, size: str) -> None:
    sample = draw(np.random.default_rng(0), 40, 100, accuracy=accuracy, kind=kind, size=size)
    assert sample.scores.mean(1) == pytest.approx([accuracy] * 2, abs=2)
    worth = sample.counts.sum(1) ** 2 / (sample.counts**2).sum(1)
    assert worth.mean() == pytest.approx(100, rel=0.05)
    assert sample.counts.mean() == pytest.approx(1 if size == "one" else 5, rel=0.05)
    assert sample.sums().sum() == pytest.approx(sample.scores[0].sum())
    sums = [np.bincount(pictures, scores) for scores, _, pictures in sample.splits()]
    assert np.array(sums) == pytest.approx(sample.sums())


def test_each_split_is_measured_once() -> None:
    rng = np.random.default_rng(1)
    for accuracy, size in itertools.product(ACCURACIES, SIZES):
        sample = draw(rng, 3, 20, accuracy=accuracy, kind="fractions", size=size)
        found = list(measure_intervals(sample, accuracy, rng))
        assert len(found) == 3
        assert {"t", "percentiles", "BCa", "studentised", "ours", "difference"} <= set(found[0])
        assert len(list(measure_tests(sample))) == 3


def test_mcnemar_is_that_of_the_textbook() -> None:
    assert mcnemar_p(3, 7) == 0.34375
    assert mcnemar_p(9, 1) == 0.021484375
    assert mcnemar_p(4, 4) == mcnemar_p(0, 0) == 1
