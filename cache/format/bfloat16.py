"""bfloat16 in numpy, which has no such type: each number is its 16 bits, a `uint16`.

The bits are the upper half of a float32. So it ends where float32 does, and keeps 8 of its 24 bits
of precision. No other numbers of a cache are `uint16`.
"""

import numpy as np

BFLOAT16 = np.dtype("<u2")


def dtype_name(dtype: np.dtype) -> str:
    """Return the name of the type of some stored numbers."""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name


def round_to_bfloat16(numbers: np.ndarray) -> np.ndarray:
    """Return the bits of the nearest numbers, of two equally near ones the even one.

    (...) float32 -> (...) bfloat16. NaN stays NaN.
    """
    bits = numbers.astype("<f4").view("<u4")
    up = (bits >> 16 & 1) + np.uint32(0x7FFF)
    return np.where(np.isnan(numbers), 0x7FC0, (bits + up) >> 16).astype(BFLOAT16)


def to_floats(rows: np.ndarray) -> np.ndarray:
    """Return bfloat16 as float32, without rounding; any other array as it is."""
    if rows.dtype != BFLOAT16:
        return rows
    return (rows.astype("<u4") << 16).view("<f4")
