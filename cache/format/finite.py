"""Which numbers a head can compute with."""

import math

import numpy as np

from frozen_vqa.cache.format.bfloat16 import BFLOAT16, to_floats

LARGEST = 1e18
"""Largest absolute value of a feature or a weight. The square of a larger one is infinite in
float32, and no encoder and no training comes near it."""

SIGN = np.uint16(0x8000)
"""The bit of float16 and bfloat16 that says that a number is negative."""


def unusable_rows(rows: np.ndarray) -> np.ndarray:
    """Return which rows hold NaN, infinity or a number beyond `LARGEST`: (rows, ...) -> (n,)."""
    if rows.dtype.kind != "f" and rows.dtype != BFLOAT16:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(~(largest_by_row(rows) <= LARGEST))  # NaN is not smaller either


def largest_by_row(rows: np.ndarray) -> np.ndarray:
    """Return the largest absolute value of each row, or NaN if it has one.

    (rows, ...) float16, bfloat16 or float32 -> (rows,) float32.
    """
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    if rows.dtype.itemsize != 2:
        return np.maximum(flat.max(1, initial=0), -flat.min(1, initial=0))
    # Numpy compares float16 five times slower than its bits: those of NaN are the largest ones.
    # The bits of bfloat16 rise with its numbers as well.
    positive, negative = flat.view("<i2").max(1, initial=0), flat.view("<u2").max(1, initial=SIGN)
    bits = np.maximum(positive.view("<u2"), negative - SIGN)
    return to_floats(bits) if rows.dtype == BFLOAT16 else bits.view("<f2").astype("<f4")
