"""Bootstrap intervals of means over questions, resampled by picture.

Questions about one picture stand and fall together, so pictures are drawn, not questions; drawing
questions would make intervals too narrow.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentiles).
"""

import numpy as np

RESAMPLES = 1_000
LEVEL = 0.95
SEED = 0

Interval = tuple[float, float]
"""Lower and upper bound."""


def mean_interval(values: np.ndarray, pictures: np.ndarray) -> Interval:
    """Return the 95 % interval of the mean of `values`.

    Args:
        values: (questions,) scores, or differences of the scores of two heads.
        pictures: (questions,) anything that is equal for questions about one picture.
    """
    _, group = np.unique(pictures, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    rng = np.random.default_rng(SEED)
    even = np.full(len(sums), 1 / len(sums))
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.multinomial(len(sums), even)  # how often each picture is in the resample
        means[i] = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
