"""Rows of eight-bit integers with one scale each: half the bytes of float16.

    number = scale * integer        scale: float16, integer: int8 from -127 to 127

A row is one patch embedding, whose numbers have similar sizes; or one part of it (parts.py), so
that an encoder with large numbers does not cost the others their bits.
"""

from collections.abc import Sequence

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


def quantise_parts(rows: np.ndarray, dims: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and scales of rows whose parts have these dims.

    (..., sum of dims) floats give as many int8 and (...) float16, or (..., parts) of several.
    """
    if len(dims) == 1:
        return quantise(rows)
    each = np.split(rows, np.cumsum(dims)[:-1], axis=-1)
    integers, scales = zip(*map(quantise, each), strict=True)
    return np.concatenate(integers, -1), np.stack(scales, -1)


def dequantise(integers: np.ndarray, scales: np.ndarray, dims: Sequence[int] = ()) -> np.ndarray:
    """Return (..., dim) float32 of (..., dim) int8 and (...) float16.

    With the `dims` of several parts, the scales are (..., parts).
    """
    factors = scales.astype(np.float32)[..., None]
    if len(dims) > 1:
        factors = np.repeat(factors[..., 0], dims, axis=-1)
    return integers.astype(np.float32) * factors
