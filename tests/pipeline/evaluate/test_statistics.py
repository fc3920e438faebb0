"""Intervals and p where the right ones are known: formulas, counting, resampling, simulation."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.evaluate.statistics import (
    ENOUGH,
    EXACT,
    FLIPS,
    Interval,
    SignFlip,
    mean_interval,
    sign_flip,
    sign_flip_p,
)

SCORES = [0.0, 30.0, 60.0, 90.0, 100.0]


def accuracy(values: np.ndarray, pictures: np.ndarray, enough: float = ENOUGH) -> Interval:
    return mean_interval(values, pictures, least=0, largest=100, enough=enough)


def bounds(values: np.ndarray, pictures: np.ndarray, enough: float = ENOUGH) -> tuple[float, float]:
    found = accuracy(values, pictures, enough).bounds
    assert found is not None
    low, high = found
    assert 0 < low < values.mean() < high < 100
    return low, high


def logit(percent: float) -> float:
    return math.log(percent / (100 - percent))


def some_scores(questions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(SCORES, questions)


# How many pictures are enough


@given(st.lists(st.integers(1, 9), min_size=1, max_size=200))
def test_without_enough_pictures_there_is_none_and_it_says_why(counts: list[int]) -> None:
    """Pictures with unequal numbers of questions are worth fewer, whatever the scores are."""
    pictures = np.repeat(np.arange(len(counts)), counts)
    worth = sum(counts) ** 2 / sum(count**2 for count in counts)
    found = accuracy(np.where(np.arange(len(pictures)) % 2, 30.0, 90.0), pictures)
    assert worth <= len(counts) + 1e-9
    if worth < ENOUGH - 1e-6:
        reason = f"worth {int(worth + 1e-9)} pictures, {ENOUGH} needed"
        assert found == Interval(None, reason)
        assert found.to_json() == {"interval": None, "no_interval": reason}
    elif found.bounds is None:
        assert found.reason == "no two pictures differ"
    else:
        assert "no_interval" not in found.to_json()


@pytest.mark.parametrize("each", [1, 2, 7])
@pytest.mark.parametrize("pictures", [1, 2, ENOUGH - 1, ENOUGH, ENOUGH + 1])
def test_pictures_with_equally_many_questions_are_worth_their_number(
    pictures: int, each: int
) -> None:
    found = accuracy(some_scores(pictures * each), np.repeat(np.arange(pictures), each))
    assert (found.bounds is not None) == (pictures >= ENOUGH)


@pytest.mark.parametrize("value", [0.0, 30.0, 100 / 3, 100.0])
def test_pictures_that_are_all_alike_tell_no_spread(value: float) -> None:
    pictures = np.arange(300) // 3
    found = accuracy(np.full(300, value), pictures)
    assert found == Interval(None, "no two pictures differ")


# What the interval is


def test_it_is_that_of_students_t_on_the_logits() -> None:
    """Without a sum over pictures: one question each, by the textbook."""
    values = some_scores(500)
    low, high = bounds(values, np.arange(500))
    error = values.std(ddof=1) / 500**0.5
    slope = 100 / (values.mean() * (100 - values.mean()))
    half = 1.964729 * error * slope  # of 499 degrees of freedom
    assert logit(low) == pytest.approx(logit(values.mean()) - half, abs=1e-7)
    assert logit(high) == pytest.approx(logit(values.mean()) + half, abs=1e-7)


@settings(max_examples=40)
@given(st.integers(75, 400), st.integers(1, 6), st.integers(0, 1000))
def test_pictures_are_what_was_drawn(pictures: int, times: int, seed: int) -> None:
    """Equal questions about one picture tell as much as one; its name and their order nothing."""
    each = some_scores(pictures, seed)
    one = accuracy(each, np.arange(pictures))
    assert one.bounds is not None
    repeated, names = np.repeat(each, times), np.repeat(np.arange(pictures), times)
    order = np.random.default_rng(seed).permutation(len(names))
    found = accuracy(repeated[order], np.array([f"picture {name}" for name in names[order]]))
    assert found.bounds == pytest.approx(one.bounds, rel=1e-9)


@given(st.integers(0, 1000))
def test_a_difference_turned_round_changes_its_sign(seed: int) -> None:
    values, pictures = some_scores(400, seed) - some_scores(400, seed + 1), np.arange(400) // 3
    one = mean_interval(values, pictures, least=-100, largest=100).bounds
    other = mean_interval(-values, pictures, least=-100, largest=100).bounds
    assert one is not None
    assert other == pytest.approx((-one[1], -one[0]), abs=1e-9)


@pytest.mark.parametrize("most", [1, 12])
def test_it_is_about_that_of_resampled_pictures(most: int) -> None:
    """Where a plain bootstrap works: 600 pictures are many, and the accuracy is near 50 %."""
    rng = np.random.default_rng(most)
    counts = rng.integers(1, most + 1, 600)
    pictures = np.repeat(np.arange(600), counts)
    hard = rng.normal(size=600)[pictures]
    values = np.array(SCORES)[np.digitize(hard + rng.normal(size=len(pictures)), [-1, -0.5, 0, 1])]
    sums, drawn = np.bincount(pictures, values), rng.multinomial(600, [1 / 600] * 600, 3_000)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    found = bounds(values, pictures)
    assert found == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.parametrize("share", [0.6, 0.95])
def test_it_covers_the_truth_as_often_as_it_says(share: float) -> None:
    """With barely enough pictures; `benchmarks/statistics.py` has every kind of data."""
    rng, inside = np.random.default_rng(1), 0
    pictures, limit = np.repeat(np.arange(ENOUGH), 5), NormalDist().inv_cdf(share)
    for _ in range(400):
        ease = 0.5**0.5 * rng.normal(size=ENOUGH)[pictures]
        right = ease + 0.5**0.5 * rng.normal(size=len(pictures)) < limit
        low, high = bounds(100.0 * right, pictures)
        inside += low <= 100 * share <= high
    assert 0.92 <= inside / 400 <= 0.98


def test_it_needs_no_random_numbers() -> None:
    values, pictures = some_scores(900), np.arange(900) // 5
    one = accuracy(values, pictures)
    np.random.default_rng(0).normal()
    assert accuracy(values, pictures) == one


# The sign-flip test


def counted(differences: list[float]) -> float:
    """Return p by going through all signs."""
    total = abs(sum(differences))
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(each, differences, strict=True))) for each in signs]
    return sum(one >= total - 1e-6 for one in sums) / len(sums)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([0.0, 10.0, -10.0, 30.0, -100 / 3, 70.0, -5.5]), max_size=8))
def test_few_pictures_are_counted(differences: list[float]) -> None:
    assert sign_flip_p(np.array(differences)) == pytest.approx(counted(differences), abs=1e-12)


@pytest.mark.parametrize("size", [10.0, 100 / 3])
def test_pictures_with_one_size_are_a_binomial_test(size: float) -> None:
    """Many are drawn, 65 and more in another way."""
    for ahead, behind in ((8, 12), (20, 32), (50, 71), (90, 110)):
        flips, tail = ahead + behind, 0
        for i in range(ahead + 1):
            tail += math.comb(flips, i)
        exact = min(1.0, 2 * tail / 2**flips)
        found = sign_flip_p(np.array([size] * ahead + [-size] * behind))
        assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / FLIPS))


@settings(max_examples=40)
@given(st.lists(st.floats(-100, 100).map(lambda x: round(x, 2)), min_size=1, max_size=30))
def test_p_is_a_probability_that_a_draw_can_show(differences: list[float]) -> None:
    values = np.array(differences)
    p = sign_flip_p(values)
    assert 1 / FLIPS <= p <= 1
    assert sign_flip_p(-values[::-1]) == p == sign_flip_p(np.append(values, [0.0] * 50))


def test_the_strongest_evidence_is_no_stronger_than_the_draws() -> None:
    assert sign_flip_p(np.full(1000, 10.0)) == 1 / FLIPS
    assert sign_flip_p(np.full(EXACT, 10.0)) == 2 / 2**EXACT
    assert sign_flip_p(np.array([10.0])) == 1
    assert sign_flip_p(np.zeros(100)) == sign_flip_p(np.array([])) == 1


def test_questions_about_one_picture_are_one() -> None:
    """Twenty questions about two pictures, all for one head, are two signs and not twenty."""
    ours, theirs = np.full(20, 100.0), np.zeros(20)
    assert sign_flip(ours, theirs, np.arange(20) // 10) == SignFlip(20, 0, 0.5)
    assert sign_flip(ours, theirs, np.arange(20)).p < 0.001


def test_fractions_count_by_their_sign() -> None:
    ours = np.array([1.0, 0.9, 0.3, 0.0, 0.6, (0.1 + 0.2) / 3])
    theirs = np.array([0.0, 0.6, 0.6, 0.0, 0.3, 0.3 / 3])  # the last differ by rounding alone
    found = sign_flip(ours, theirs, np.arange(6))
    assert (found.ours_better, found.theirs_better) == (3, 1)
    assert found.p == pytest.approx(counted([1.0, 0.3, -0.3, 0.3]))


def test_it_rejects_as_often_as_it_says_when_neither_head_is_better() -> None:
    """Heads that differ by picture; McNemar's test, which counts questions, rejects 3 times 5 %."""
    rng, rejected = np.random.default_rng(2), 0
    pictures = np.repeat(np.arange(40), 8)
    for _ in range(250):
        ease = rng.normal(size=(2, 40))[:, pictures] + rng.normal(size=(2, 320))
        ours, theirs = 100.0 * (ease > 0)
        rejected += sign_flip(ours, theirs, pictures).p <= 0.05
    assert 0.02 <= rejected / 250 <= 0.09
