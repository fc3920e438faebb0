"""Rows of eight-bit integers with one scale each: half the bytes of float16.

    number = scale * integer        scale: float16, integer: int8 from -127 to 127

A row is one patch embedding, whose numbers have similar sizes.
"""

import numpy as np

LARGEST_INTEGER = 127
"""Largest integer; -128 is left out, so that a row and its negative are stored alike."""


def quantise(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the integers and scales that are nearest to some rows of floats.

    (..., dim) floats give (..., dim) int8 and (...) float16.

    The scale is the largest absolute number / 127, rounded up to a float16, so that no number is
    cut off; a dequantised number is at most half the scale away. Quantising dequantised rows
    changes nothing as long as the scale is a normal float16 (from 6.1e-5).

    A row of zeros has scale 0. A row that has a number that is not finite, or one beyond
    127 x 65,504, has a scale that is not finite and zeros.
    """
    x = rows.astype(np.float32, copy=False)
    # The largest and the smallest number, because np.abs would copy all of it.
    largest = np.maximum(x.max(-1, initial=0), -x.min(-1, initial=0))
    with np.errstate(over="ignore", invalid="ignore"):
        scales = (largest / np.float32(LARGEST_INTEGER)).astype(np.float16)
        # The product is exact, and so is the comparison.
        low = scales.astype(np.float32) * LARGEST_INTEGER < largest
        scales = np.where(low, np.nextafter(scales, np.float16(np.inf)), scales)
    usable = np.isfinite(scales) & (scales > 0)
    divisors = np.where(usable, scales, 1).astype(np.float32)[..., None]
    integers = np.rint(x / divisors)
    integers[~usable] = 0
    return integers.astype(np.int8), scales


def dequantise(integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return (..., dim) float32 of (..., dim) int8 and (...) float16."""
    return integers.astype(np.float32) * scales.astype(np.float32)[..., None]
