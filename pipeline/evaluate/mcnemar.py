"""McNemar's exact test of two heads on the same questions.

A question is discordant if one head scores higher on it than the other. Where a question is either
right or wrong, that is McNemar's table; scores of the official metric are fractions, and then it is
the sign test, of which McNemar's is the case of two outcomes. If neither head is the better one,
each is ahead on a discordant question with probability 1/2, so that the count is binomial:

    p = min(1, 2 P(X <= min(ours, theirs))),  X ~ Binomial(ours + theirs, 1/2)

It takes questions for independent. Questions about one picture are not, which makes p too small
where a picture has many; the bootstrap interval (`pipeline/evaluate/bootstrap.py`) draws pictures.

Source: McNemar, Note on the sampling error of the difference between correlated proportions or
percentages, Psychometrika 12 (1947); Dixon and Mood, The statistical sign test, Journal of the
American Statistical Association 41 (1946).
"""

import math
from dataclasses import dataclass

import numpy as np

EQUAL = 1e-9
"""Scores that differ by no more are equal: means over seeds are rounded."""


@dataclass(frozen=True)
class McNemar:
    """How often each of two heads is ahead, and how likely a split at least so uneven is.

    Attributes:
        ours_better: Questions on which the first head scores higher.
        theirs_better: Questions on which the second does.
        p: Two-sided, from 0 to 1; 1 if no question is discordant.
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
