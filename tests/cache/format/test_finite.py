"""Which rows hold a number that a head cannot compute with: all, and no other."""

import numpy as np
import pytest

from frozen_vqa.cache.format.finite import LARGEST, unusable_rows

TYPES = [np.float16, np.float32, np.float64]
BAD = [np.nan, -np.nan, np.inf, -np.inf]


def expected(rows: np.ndarray) -> list[int]:
    wide = rows.astype(np.float64)
    return [i for i, row in enumerate(wide) if not (np.abs(row) <= LARGEST).all()]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3)])
def test_each_row_by_itself(dtype: type, shape: tuple[int, ...]) -> None:
    for bad in BAD + [v * s for v in (LARGEST, 2 * LARGEST, 65504.0) for s in (1, -1)]:
        with np.errstate(over="ignore"):
            for row in range(5):
                rows = np.linspace(-60000, 60000, int(np.prod(shape))).reshape(shape).astype(dtype)
                rows[row].fill(bad) if rows[row].ndim else rows.__setitem__(row, bad)
                found = unusable_rows(rows)
                assert found.tolist() == expected(rows), (bad, row)
                assert found.dtype == np.int64


@pytest.mark.parametrize("rows", [np.zeros((0, 4), np.float32), np.full((3, 4), 127, np.int8)])
def test_no_row_and_no_float_is_usable(rows: np.ndarray) -> None:
    found = unusable_rows(rows)
    assert (found.tolist(), found.dtype) == ([], np.int64)
