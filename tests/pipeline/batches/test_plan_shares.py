"""The parts of a batch that ranks read; each machine reads its own share of the pictures."""

from collections import Counter
from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.batches.plan import plan_batches, share_of
from tests.support.plans import as_lists, batch_sizes, shuffles, some_image_rows

some_shares = st.integers(1, 6)


@given(some_image_rows, some_shares)
def test_a_share_is_a_run_of_pictures(image_rows: np.ndarray, shares: int) -> None:
    """With as many questions as the others, give or take one picture."""
    share = share_of(image_rows, shares)

    assert (np.diff(share[np.argsort(image_rows, kind="stable")]) >= 0).all()
    assert not len(share) or 0 <= share.min() <= share.max() < shares
    assert len(set(zip(image_rows, share, strict=True))) == len(set(image_rows))
    most = max(Counter(image_rows.tolist()).values(), default=0)
    for ends in np.cumsum(np.bincount(share, minlength=shares)):
        fair = len(image_rows) * np.arange(1, shares + 1) / shares
        assert np.abs(fair - ends).min() <= most


@given(some_image_rows, some_shares, batch_sizes, st.booleans(), shuffles)
def test_a_plan_of_shares_is_a_partition(
    image_rows: np.ndarray,
    shares: int,
    batch_size: int,
    grouped: bool,
    shuffle: tuple[int, int] | None,
) -> None:
    plan = plan_batches(
        image_rows, batch_size=batch_size, grouped=grouped, shuffle=shuffle, shares=shares
    )
    assert sorted(plan.rows) == list(range(len(image_rows)))
    assert all(1 <= size <= batch_size for size in plan.sizes)
    for grid in plan:
        for entry in grid:
            assert len({int(image_rows[row]) for row in entry}) == 1
    again = plan_batches(
        image_rows, batch_size=batch_size, grouped=grouped, shuffle=shuffle, shares=shares
    )
    assert as_lists(again) == as_lists(plan)


@given(
    some_image_rows, some_shares, st.integers(1, 3), batch_sizes, st.booleans(), st.integers(0, 9)
)
def test_a_machine_reads_its_own_share_alone(
    image_rows: np.ndarray,
    shares: int,
    local: int,
    batch_size: int,
    grouped: bool,
    epoch: int,
) -> None:
    """In every epoch, also where its ranks have no question of a batch; in equal parts."""
    plan = plan_batches(
        image_rows, batch_size=batch_size, grouped=grouped, shuffle=(1, epoch), shares=shares
    )
    share, world = share_of(image_rows, shares), shares * local
    parts = [plan.part(rank, world) for rank in range(world)]
    together = [list(chain(*grids)) for grids in zip(*map(as_lists, parts), strict=True)]
    assert together == as_lists(plan)
    for rank, part in enumerate(parts):
        assert set(share[part.rows]) <= {rank // local}
        if len(part.rows):
            assert set(share[part.fill_empty(plan).rows]) == {rank // local}
    each = np.bincount(share, minlength=shares)
    for batch, grid in enumerate(plan):
        longest = max(map(len, grid))
        for machine in range(shares):
            ranks = parts[machine * local : (machine + 1) * local]
            fair = int(plan.sizes[batch]) * each[machine] / len(image_rows)
            found = sum(int(part.sizes[batch]) for part in ranks)
            assert abs(found - fair) <= longest * (1 + shares)


@given(
    some_image_rows,
    batch_sizes,
    st.booleans(),
    shuffles,
    st.integers(1, 9),
    st.sampled_from([1, 3]),
)
def test_parts_of_a_batch(
    image_rows: np.ndarray,
    batch_size: int,
    grouped: bool,
    shuffle: tuple[int, int] | None,
    world: int,
    shares: int,
) -> None:
    """Together they are the batch; each has its fraction of the questions, by whole entries."""
    plan = plan_batches(
        image_rows, batch_size=batch_size, grouped=grouped, shuffle=shuffle, shares=shares
    )
    parts = [plan.part(rank, world) for rank in range(world)]

    together = [list(chain(*grids)) for grids in zip(*map(as_lists, parts), strict=True)]
    assert together == as_lists(plan)
    for batch, grid in enumerate(plan):
        sizes = [int(part.sizes[batch]) for part in parts]
        assert sizes == [sum(map(len, part[batch])) for part in parts]
        fair, longest = sum(sizes) / world, max(map(len, grid))
        assert shares > 1 or all(abs(size - fair) <= longest for size in sizes)


@given(some_image_rows, batch_sizes, st.booleans(), st.integers(1, 9))
def test_a_rank_without_a_part_reads_a_picture_that_it_has(
    image_rows: np.ndarray, batch_size: int, grouped: bool, world: int
) -> None:
    plan = plan_batches(image_rows, batch_size=batch_size, grouped=grouped, shuffle=(0, 0))
    for rank in range(world):
        part = plan.part(rank, world)
        own = [entry for grid in part for entry in grid][:1]
        expected = [
            mine or own or whole[:1] for mine, whole in zip(map(list, part), plan, strict=True)
        ]
        assert as_lists(part.fill_empty(plan)) == as_lists(expected)


def test_orders_of_shares_differ_by_seed_and_epoch_and_mix_each_share() -> None:
    """As many questions of each share come early as late, and no picture keeps its neighbours."""
    image_rows = np.repeat(np.arange(400), 3)
    orders = [
        plan_batches(image_rows, batch_size=48, grouped=True, shuffle=shuffle, shares=4)
        for shuffle in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(plan.rows) for plan in orders}) == 3
    for plan in orders:
        half = image_rows[plan.rows[: len(plan.rows) // 2]]
        for share in range(4):
            mine = half[(half >= 100 * share) & (half < 100 * (share + 1))]
            assert abs(len(mine) - 150) <= 24
            assert abs(mine.mean() - (100 * share + 49.5)) < 10
        parts = [plan.part(rank, 4).sizes for rank in range(4)]
        assert np.ptp(parts, axis=0).max() <= 3  # one picture
