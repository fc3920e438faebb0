"""Intervals in cases where the right one is known; McNemar's test against whole numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.evaluate.statistics import (
    RESAMPLES,
    McNemar,
    mcnemar,
    mean_interval,
    two_sided_p,
)


@given(st.floats(-100, 100), st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_equal_values_have_no_width(value: float, pictures: list[int]) -> None:
    interval = mean_interval(np.full(len(pictures), value), np.array(pictures))
    assert interval == pytest.approx((value, value), abs=1e-9)


def test_a_single_picture_has_no_width() -> None:
    assert mean_interval(np.array([0.0, 1.0, 1.0]), np.array([4, 4, 4])) == (2 / 3, 2 / 3)


def width(values: np.ndarray, pictures: np.ndarray) -> float:
    low, high = mean_interval(values, pictures)
    assert low <= values.mean() <= high
    return high - low


def test_it_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(3).normal(50, 10, 2000)
    low, high = mean_interval(values, np.arange(2000))
    half = 1.96 * values.std() / 2000**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_questions_that_agree_count_as_one() -> None:
    """Ten equal questions a picture tell as much as one does: the interval is √10 wider."""
    each = np.random.default_rng(0).normal(size=100)
    values, pictures = np.repeat(each, 10), np.repeat(np.arange(100), 10)

    by_picture, by_question = width(values, pictures), width(values, np.arange(1000))

    assert by_picture == pytest.approx(width(each, np.arange(100)), rel=1e-9)
    assert by_picture / by_question == pytest.approx(10**0.5, rel=0.1)


def test_pictures_with_more_questions_weigh_more() -> None:
    """The mean is over questions, so that resamples differ in how many they hold."""
    values = np.array([0.0] * 90 + [100.0] * 10)
    pictures = np.append(np.repeat(np.arange(10), 9), np.arange(10, 20))
    rng = np.random.default_rng(7)
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 20, 20)
        resample = np.concatenate([values[pictures == picture] for picture in drawn])
        means.append(resample.mean())
    low, high = mean_interval(values, pictures)
    assert low < 10 < high
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), rel=0.15)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        of_picture = rng.normal(size=60)
        pictures = rng.integers(0, 60, 200)
        low, high = mean_interval(of_picture[pictures] + rng.normal(size=200), pictures)
        inside += low <= 0 <= high
    assert 87 <= inside <= 100


def test_the_same_data_give_the_same_interval() -> None:
    values = np.random.default_rng(2).normal(size=50)
    np.random.seed(0)
    one = mean_interval(values, np.arange(50))
    np.random.seed(1)
    assert mean_interval(values, np.arange(50)) == one
    # Names of pictures are no matter, as long as equal stays equal.
    assert mean_interval(values, np.array([f"picture {i:02d}" for i in range(50)])) == one
    assert RESAMPLES >= 1000


# McNemar's exact test


def exact(ahead: int, behind: int) -> float:
    flips, choices, tail = ahead + behind, 1, 0
    for i in range(min(ahead, behind) + 1):
        tail += choices
        choices = choices * (flips - i) // (i + 1)
    return min(1.0, 2 * tail / 2**flips)  # Python divides whole numbers of any size exactly


@given(st.integers(0, 60), st.integers(0, 60))
def test_it_is_that_of_whole_numbers(ahead: int, behind: int) -> None:
    assert two_sided_p(ahead, behind) == pytest.approx(exact(ahead, behind), rel=1e-9)


@pytest.mark.parametrize("pair", [(3_050, 2_950), (2_700, 3_300), (40, 900), (2_000, 2_000)])
def test_large_counts(pair: tuple[int, int]) -> None:
    assert two_sided_p(*pair) == pytest.approx(exact(*pair), rel=1e-7)


@pytest.mark.parametrize(
    ("ahead", "behind", "p"),
    [
        (0, 0, 1.0),
        (3, 7, 0.34375),  # 2 * (1 + 10 + 45 + 120) / 1024
        (9, 1, 0.021484375),  # 2 * 11 / 1024
        (0, 5, 0.0625),
        (4, 4, 1.0),
        (0, 200_000, 0.0),
    ],
)
def test_known_values(ahead: int, behind: int, p: float) -> None:
    assert two_sided_p(ahead, behind) == pytest.approx(p, rel=1e-12, abs=0)
    assert two_sided_p(behind, ahead) == two_sided_p(ahead, behind)


def test_fractions_count_by_their_sign() -> None:
    ours = np.array([1.0, 0.9, 0.3, 0.0, 0.6, (0.1 + 0.2) / 3])
    theirs = np.array([0.0, 0.6, 0.6, 0.0, 0.3, 0.3 / 3])  # the last differ by rounding alone
    assert mcnemar(ours, theirs) == McNemar(3, 1, pytest.approx(0.625))
