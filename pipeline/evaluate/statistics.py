"""How sure a score or a difference of two heads is: bootstrap intervals and McNemar's exact test.

The bootstrap draws pictures and not questions. Questions about one picture tend to be right or
wrong together, so drawing questions would make the intervals too narrow.

McNemar's test counts discordant questions: one head scores higher than the other. Where a question
is either right or wrong, that count is McNemar's table. Scores of the official metric are
fractions; then it is the sign test, of which McNemar's is the case of two outcomes. If neither head
is better, each is ahead on a discordant question with probability 1/2, so the count is binomial:

    p = min(1, 2 P(X <= min(ours, theirs))),  X ~ Binomial(ours + theirs, 1/2)

The test assumes independent questions. Questions about one picture are not independent, which makes
p too small where a picture has many of them.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentiles);
McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
Psychometrika 12 (1947); Dixon and Mood, The statistical sign test, Journal of the American
Statistical Association 41 (1946).
"""

import math
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1_000
LEVEL = 0.95
SEED = 0

Interval = tuple[float, float]
"""Lower and upper bound."""

EQUAL = 1e-9
"""Scores that differ by no more than this are equal, because means over seeds are rounded."""


def mean_interval(values: np.ndarray, pictures: np.ndarray) -> Interval:
    """Return the 95 % bootstrap interval of the mean of (questions,) `values`.

    `pictures` are (questions,) any values that are equal for questions about one picture.
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


@dataclass(frozen=True)
class McNemar:
    """How often each of two heads is ahead, and the probability of a split at least as uneven.

    The probability is two-sided, from 0 to 1; 1 if the heads score the same on every question.
    """

    ours_better: int
    theirs_better: int
    p: float


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> McNemar:
    """Test two heads by their scores on the same questions, (questions,) each."""
    ahead, behind = int((ours - theirs > EQUAL).sum()), int((theirs - ours > EQUAL).sum())
    return McNemar(ahead, behind, two_sided_p(ahead, behind))


def two_sided_p(ahead: int, behind: int) -> float:
    """Return the exact two-sided probability; 0 where it is below the smallest float."""
    flips, fewer = ahead + behind, min(ahead, behind)
    i = np.arange(fewer + 1)
    factorials = np.array([math.lgamma(n) for n in range(1, flips + 2)])  # log n!, from 0
    logs = factorials[flips] - factorials[i] - factorials[flips - i] - flips * math.log(2)
    largest = float(logs.max())
    return min(1.0, 2 * math.exp(largest) * float(np.exp(logs - largest).sum()))
