"""Which numbers a head can compute with."""

import numpy as np

LARGEST = 1e18
"""Largest absolute value of a feature or a weight. The square of a larger one is infinite in
float32, and no encoder and no training comes near it."""

BITS_OF_INFINITY = 0x7C00
"""Of float16. The bits of NaN are above it; the sign is one bit higher."""


def unusable_rows(rows: np.ndarray) -> np.ndarray:
    """Return which rows hold NaN, infinity or a number beyond `LARGEST`: (rows, ...) -> (n,)."""
    if rows.dtype.kind != "f" or not rows.size:
        return np.empty(0, dtype=np.int64)
    flat = rows.reshape(len(rows), -1)
    if rows.dtype.itemsize == 2:  # numpy compares float16 five times slower than its bits
        signed, unsigned = flat.view("<i2").max(1), flat.view("<u2").max(1)
        usable = (signed < BITS_OF_INFINITY) & (unsigned < BITS_OF_INFINITY + 0x8000)
    else:
        with np.errstate(invalid="ignore"):  # NaN is what is looked for
            usable = (flat.max(1) <= LARGEST) & (flat.min(1) >= -LARGEST)
    return np.flatnonzero(~usable)
