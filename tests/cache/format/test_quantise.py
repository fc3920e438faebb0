"""Eight-bit rows: how near they are to what they stand for, and that nothing is cut off."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from frozen_vqa.cache.format.quantise import dequantise, quantise

BEYOND = float(np.float32(127) * 65504)
"""The largest number that has a scale."""

SMALLEST_NORMAL = 2.0**-14


def rows_of(dtype: type, largest: float) -> st.SearchStrategy[np.ndarray]:
    numbers = st.floats(-largest, largest, width=8 * np.dtype(dtype).itemsize)
    return arrays(dtype, array_shapes(min_dims=1, max_dims=3, max_side=5), elements=numbers)


any_rows = st.one_of(
    rows_of(np.float32, BEYOND), rows_of(np.float32, 2.0**-20), rows_of(np.float16, 65504)
)


@given(any_rows)
def test_a_number_is_at_most_half_a_scale_away_and_never_cut_off(rows: np.ndarray) -> None:
    integers, scales = quantise(rows)

    assert (integers.dtype, integers.shape) == (np.int8, rows.shape)
    assert (scales.dtype, scales.shape) == (np.float16, rows.shape[:-1])
    assert np.abs(integers.astype(int)).max(initial=0) <= 127
    exact, step = rows.astype(np.float64), scales.astype(np.float64)[..., None]
    assert (np.abs(exact) <= 127 * step).all()
    away = np.abs(exact - dequantise(integers, scales).astype(np.float64))
    assert (away <= step * (0.5 + 1e-5)).all()  # 1e-5: what float32 rounds in 127 steps


@given(any_rows)
def test_no_smaller_scale_would_do(rows: np.ndarray) -> None:
    _, scales = quantise(rows)

    largest = np.abs(rows.astype(np.float64)).max(-1)
    below = np.nextafter(scales, np.float16(-1)).astype(np.float64)
    assert ((scales == 0) == (largest == 0)).all()
    assert (127 * below < largest)[scales > 0].all()


@given(any_rows)
def test_quantising_again_changes_nothing(rows: np.ndarray) -> None:
    integers, scales = quantise(rows)
    again = quantise(dequantise(integers, scales))

    normal = (scales == 0) | (scales >= SMALLEST_NORMAL)
    np.testing.assert_array_equal(again[0][normal], integers[normal])
    np.testing.assert_array_equal(again[1][normal], scales[normal])


def test_known_rows() -> None:
    rows = np.array([[0, 0, -0.0], [254, -127, 1], [-0.5, 0.25, 0.126]], np.float32)

    integers, scales = quantise(rows)

    scale = 1033 / 2**18  # 0.5 / 127 is 1032.06 of these, which are float16's steps there
    np.testing.assert_array_equal(scales, np.array([0, 2, scale], np.float16))
    np.testing.assert_array_equal(integers, [[0, 0, 0], [127, -64, 0], [-127, 63, 32]])
    np.testing.assert_array_equal(dequantise(integers, scales)[1], [254, -128, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01 * BEYOND])
def test_a_row_that_cannot_be_stored_is_marked_and_alone(value: float) -> None:
    rows = np.array([[1, 2, 3], [4, value, 5]], np.float32)

    integers, scales = quantise(rows)

    assert scales[0] > 0
    assert not np.isfinite(scales[1])
    np.testing.assert_array_equal(integers[1], [0, 0, 0])
