"""Plans are partitions of the questions, and functions of seed and epoch alone."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.batches.plan import (
    MAX_SLOTS,
    PART,
    PICTURE,
    Grid,
    divide_by_length,
    plan_batches,
)
from tests.support.plans import as_lists, batch_sizes, shuffles, some_image_rows


def flat(plan: Sequence[Grid]) -> list[int]:
    return [int(row) for grid in plan for entry in grid for row in entry]


@given(some_image_rows, batch_sizes, st.booleans(), shuffles)
def test_a_plan_is_a_partition(
    image_rows: np.ndarray, batch_size: int, grouped: bool, shuffle: tuple[int, int] | None
) -> None:
    plan = plan_batches(image_rows, batch_size=batch_size, grouped=grouped, shuffle=shuffle)

    assert sorted(flat(plan)) == list(range(len(image_rows)))
    for grid in plan:
        assert 1 <= sum(len(entry) for entry in grid) <= batch_size
        for entry in grid:
            assert len({int(image_rows[row]) for row in entry}) == 1  # one picture an entry
    if not grouped:
        assert all(len(entry) == 1 for grid in plan for entry in grid)
        assert all(len(grid) == batch_size for grid in plan) or len(image_rows) % batch_size


@given(some_image_rows, batch_sizes, shuffles)
def test_questions_of_a_picture_stay_together(
    image_rows: np.ndarray, batch_size: int, shuffle: tuple[int, int] | None
) -> None:
    plan = plan_batches(image_rows, batch_size=batch_size, grouped=True, shuffle=shuffle)

    entries = Counter(int(image_rows[entry[0]]) for grid in plan for entry in grid)
    most = min(MAX_SLOTS, batch_size)
    assert entries == {row: -(-n // most) for row, n in Counter(image_rows.tolist()).items()}


@given(
    some_image_rows, batch_sizes, st.booleans(), st.tuples(st.integers(0, 99), st.integers(0, 9))
)
def test_a_plan_depends_on_nothing_but_seed_and_epoch(
    image_rows: np.ndarray, batch_size: int, grouped: bool, shuffle: tuple[int, int]
) -> None:
    np.random.seed(1)
    one = plan_batches(image_rows, batch_size=batch_size, grouped=grouped, shuffle=shuffle)
    np.random.seed(2)
    other = plan_batches(image_rows, batch_size=batch_size, grouped=grouped, shuffle=shuffle)
    assert as_lists(one) == as_lists(other)


@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "plain"])
def test_seeds_and_epochs_have_their_own_order(grouped: bool) -> None:
    image_rows = np.repeat(np.arange(40), 3)
    orders = [
        flat(plan_batches(image_rows, batch_size=7, grouped=grouped, shuffle=shuffle))
        for shuffle in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    assert len({tuple(order) for order in orders}) == 4
    # Shuffled at every scale: hardly a question keeps its place or its neighbour.
    for order in orders:
        assert sum(i == row for i, row in enumerate(order)) < 12
        follows = sum(b == a + 1 for a, b in pairwise(order))
        assert follows < (60 if grouped else 12)
        middle = np.mean(order[:60])  # the first half is a fair sample of all
        assert 35 < middle < 85


@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "plain"])
def test_without_shuffle_a_plan_keeps_the_order(grouped: bool) -> None:
    image_rows = np.array([3, 1, 3, 2, 1])
    plan = plan_batches(image_rows, batch_size=3, grouped=grouped, shuffle=None)
    assert as_lists(plan) == (
        [[[1, 4], [3]], [[0, 2]]] if grouped else [[[0], [1], [2]], [[3], [4]]]
    )


def test_pictures_with_as_many_questions_share_batches() -> None:
    """So that few slots are padding."""
    rng = np.random.default_rng(0)
    image_rows = np.repeat(np.arange(400), rng.integers(1, 10, 400))

    plan = plan_batches(image_rows, batch_size=64, grouped=True, shuffle=(0, 0))

    most = [max(len(entry) for entry in grid) for grid in plan]
    slots = sum(len(grid) * n for grid, n in zip(plan, most, strict=True))
    assert slots < 1.15 * len(image_rows)
    # Yet an epoch does not go from pictures with few questions to those with many.
    correlation = np.corrcoef(np.arange(len(most)), most)[0, 1]
    assert abs(correlation) < 0.5


def test_batches_of_many_pictures_need_no_padding() -> None:
    image_rows = np.repeat(np.arange(400), 3)

    plan = plan_batches(image_rows, batch_size=64, grouped=True, shuffle=(0, 0))

    assert {len(grid) for grid in plan} == {20}  # 21 would fit, and be padded to 24
    # Of few pictures a batch would lose too much.
    assert len(plan_batches(image_rows, batch_size=46, grouped=True, shuffle=None)[0]) == 15


def test_pictures_meet_others_in_every_epoch() -> None:
    image_rows = np.repeat(np.arange(60), 3)

    def together(epoch: int) -> set[frozenset[int]]:
        plan = plan_batches(image_rows, batch_size=6, grouped=True, shuffle=(0, epoch))
        return {frozenset(int(image_rows[entry[0]]) for entry in grid) for grid in plan}

    epochs = [together(epoch) for epoch in range(3)]
    neighbours = {frozenset((i, i + 1)) for i in range(59)}
    for i, pairs in enumerate(epochs):
        assert all(len(pair) == 2 for pair in pairs)
        assert len(pairs & neighbours) < 6
        assert len(pairs & epochs[i - 1]) < 6


def cost(grid: Grid, lengths: np.ndarray) -> int:
    slots = max(map(len, grid))
    longest = max(int(lengths[row]) for entry in grid for row in entry)
    return PART + len(grid) * (PICTURE + slots * longest)


@given(
    some_image_rows.filter(len),
    batch_sizes,
    st.booleans(),
    st.sampled_from([4, 40, 400, 4000]),
    st.randoms(use_true_random=False),
)
def test_a_batch_is_divided_by_length_where_that_costs_less(
    image_rows: np.ndarray, batch_size: int, grouped: bool, most: int, random: Random
) -> None:
    """Each question is in one part, those of a picture side by side, the short ones first."""
    lengths = np.array([int(most ** random.random() ** 4) for _ in image_rows])
    for grid in plan_batches(image_rows, batch_size=batch_size, grouped=grouped, shuffle=None):
        parts = divide_by_length(grid, lengths)
        for number, entry in enumerate(grid):
            left = [
                [row for row in entry.tolist() if row in np.concatenate(part)] for part in parts
            ]
            assert sorted(np.concatenate(left).tolist()) == sorted(entry.tolist()), number
            for rows, part in zip(left, parts, strict=True):
                assert not rows or rows in [one.tolist() for one in part]
        assert sum(map(len, map(np.concatenate, parts))) == sum(map(len, grid))
        ranges = [(lengths[rows].min(), lengths[rows].max()) for rows in map(np.concatenate, parts)]
        first, *longer = ranges
        for (_, before), (after, _) in pairwise([first, *reversed(longer)]):
            assert before < after
        # Every part but the first pays for itself, and none of its questions is padded to double.
        assert all(low > high // 2 for low, high in longer)
        if longer:
            assert sum(cost(part, lengths) for part in parts) < cost(grid, lengths)


def test_one_long_question_is_no_longer_beside_the_others() -> None:
    """Nor is a batch divided whose questions are about equally long, or that is too small."""
    grid = [np.arange(first, first + 5) for first in range(0, 250, 5)]
    lengths = np.tile([6, 7, 9, 12, 20], 50)
    (whole,) = divide_by_length(grid, lengths)
    assert whole is grid
    lengths[121] = 250
    short, long = divide_by_length(grid, lengths)
    assert [part.tolist() for part in long] == [[121]]
    assert [len(part) for part in short] == [5] * 24 + [4] + [5] * 25
    lengths[121] = 100
    assert len(divide_by_length(grid[24:25], lengths)) == 1
