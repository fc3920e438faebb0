"""Intervals in cases where one knows what they have to be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.evaluate.bootstrap import RESAMPLES, mean_interval


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
