"""Values of any range as levels of grey: 0 for the lowest, 255 for the highest."""

import numpy as np
import numpy.typing as npt

Window = tuple[float, float]
"""The values that become black and white, the lower one first."""


def to_levels(
    values: npt.NDArray[np.generic], window: Window, dtype: type[np.floating] = np.float64
) -> npt.NDArray[np.uint8]:
    """Return (value - low) * 255 / (high - low), rounded; what lies outside becomes 0 or 255.

    `dtype` is that of the computation; in place, because a picture may have fifty million values.
    """
    low, high = window
    numbers = values.astype(dtype)
    numbers -= dtype(low)
    numbers *= dtype(255 / (high - low))
    return np.rint(np.clip(numbers, 0, 255, out=numbers), out=numbers).astype(np.uint8)
