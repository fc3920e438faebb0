"""Pooled patches are the means of squares, the same bits from numpy and from torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.cache import CacheError
from frozen_vqa.cache.format.pool import pool_patches
from tests.support.caches import make_spec


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    side=st.integers(1, 3),
    before=st.sampled_from([(), (1,), (3,)]),
    seed=st.integers(0, 99),
)
def test_each_is_the_mean_of_its_neighbours(
    rows: int, columns: int, side: int, before: tuple[int, ...], seed: int
) -> None:
    grid = (rows * side, columns * side)
    patches = np.random.default_rng(seed).normal(0, 9, (*before, grid[0] * grid[1], 3))
    patches = patches.astype(np.float32)
    found = pool_patches(patches, grid, side)
    assert found.shape == (*before, rows * columns, 3)
    assert found.dtype == np.float32
    picture = patches.reshape(*before, *grid, 3).astype(np.float64)
    for i in range(rows):
        for j in range(columns):
            square = picture[..., i * side : (i + 1) * side, j * side : (j + 1) * side, :]
            mean = square.mean((-3, -2))
            np.testing.assert_allclose(found[..., i * columns + j, :], mean, atol=1e-5)
    again = pool_patches(torch.from_numpy(patches), grid, side)
    assert np.array_equal(again.numpy(), found)


@pytest.mark.parametrize("grid", [(2, 3), (3, 2), (5, 5), (1, 2)])
def test_odd_grids_are_refused(grid: tuple[int, int]) -> None:
    with pytest.raises(CacheError, match=rf"^{grid[0]} x {grid[1]} patches cannot be pooled"):
        make_spec(grid=grid).pooled(2)


def test_a_spec_without_pooling_stays_what_it_is() -> None:
    spec = make_spec(grid=(4, 6))
    assert spec.pooled(1) is spec
    assert spec.pooled(2).settings() == spec.settings() | {"vision pool": 2}
    assert spec.pooled(2).patches * 4 == spec.patches
