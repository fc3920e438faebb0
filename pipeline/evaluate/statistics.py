"""How sure a score or a difference of two heads is: intervals and a sign-flip test, over pictures.

Questions about one picture tend to be right or wrong together, so both take the picture, and not
the question, as what was drawn at random.

The interval is that of a mean R = Σ sᵢ / Σ nᵢ, where picture i has nᵢ questions with the sum sᵢ.
With N = Σ nᵢ and the residuals eᵢ = sᵢ - R nᵢ, its standard error is

    SE² = Σ eᵢ² / (1 - nᵢ / N) / N²

Student's t has K - 1 degrees of freedom, where K = N² / Σ nᵢ² is what the pictures are worth: their
number if all have equally many questions, and fewer if not. The interval is symmetric for the logit
of where R lies between the least and the largest possible mean, so it stays between them. It needs
no random numbers. Below `ENOUGH` pictures it covers the truth too rarely, so there is none.

The test flips the sign of each picture's difference sᵢ - sᵢ' at random. If neither head is better,
both signs are equally likely, and p is the probability of a sum that is at least as far from 0.

`python -m benchmarks.statistics` measures both; docs/results.md has its tables.

Sources: Cochran, Sampling Techniques, 1977, chapter 6 (the ratio estimator); Bell and McCaffrey,
Bias reduction in standard errors for linear regression with multi-stage samples, Survey Methodology
28 (2002), for 1 - nᵢ / N; Kish, Survey Sampling, 1965, for K; Good, Permutation, Parametric, and
Bootstrap Tests of Hypotheses, 2005, for the test.
"""

import math
from dataclasses import dataclass

import numpy as np

ENOUGH = 75
"""From this worth of pictures on, the interval held the truth in 93.6 to 97.5 % of simulations."""

FLIPS = 20_000
EXACT = 14
"""Up to this number of pictures that differ, the test counts all signs."""

SEED = 0
EQUAL = 1e-9
"""Scores that differ by no more than this are equal, because means over seeds are rounded."""

_Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; without `bounds`, `reason` says in a few words why there is none."""

    bounds: tuple[float, float] | None
    reason: str = ""

    def to_json(self) -> dict[str, object]:
        """Return values that JSON can hold, rounded to hundredths."""
        if self.bounds is None:
            return {"interval": None, "no_interval": self.reason}
        return {"interval": [round(bound, 2) for bound in self.bounds]}


def mean_interval(
    values: np.ndarray,
    pictures: np.ndarray,
    *,
    least: float,
    largest: float,
    enough: float = ENOUGH,
    unit: str = "pictures",
) -> Interval:
    """Return the 95 % interval of the mean of (questions,) `values`, each in [least, largest].

    `pictures` are (questions,) any values that are equal for questions about one picture. `enough`
    is what the pictures have to be worth; only the benchmark that found it gives another. `unit` is
    what the reasons call them.
    """
    sums, counts = _by_picture(values, pictures)
    total = counts.sum()
    worth = total**2 / (counts**2).sum()
    if worth < enough - EQUAL:
        return Interval(None, f"worth {math.floor(worth + EQUAL)} {unit}, {enough} needed")
    mean = sums.sum() / total
    share = counts / total
    error = math.sqrt(((sums - mean * counts) ** 2 / (1 - share)).sum()) / total
    if error <= EQUAL:
        return Interval(None, f"no two {unit} differ")
    place = (mean - least) / (largest - least)
    middle = math.log(place / (1 - place))
    half = _t(worth - 1) * error / ((largest - least) * place * (1 - place))
    low, high = (
        least + (largest - least) / (1 + math.exp(-x)) for x in (middle - half, middle + half)
    )
    return Interval((float(low), float(high)))


def _by_picture(values: np.ndarray, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the values of each picture, and how many they are."""
    _, group = np.unique(pictures, return_inverse=True)
    return np.bincount(group, values), np.bincount(group).astype(float)


def _t(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t, right to 1e-7 from 70 degrees of freedom on.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 26.7.5.
    """
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


@dataclass(frozen=True)
class SignFlip:
    """On how many questions each of two heads is ahead, and the two-sided p of the test.

    p is 1 if the heads score the same about every picture. It is counted over all signs for up to
    `EXACT` pictures that differ, else over `FLIPS` draws, of which the data are one; then it is at
    least 1 / `FLIPS`, and 0.05 has a standard error of 0.0015.
    """

    ours_better: int
    theirs_better: int
    p: float


def sign_flip(ours: np.ndarray, theirs: np.ndarray, pictures: np.ndarray) -> SignFlip:
    """Test two heads by their scores on the same questions, (questions,) each."""
    ahead, behind = int((ours - theirs > EQUAL).sum()), int((theirs - ours > EQUAL).sum())
    return SignFlip(ahead, behind, sign_flip_p(_by_picture(ours - theirs, pictures)[0]))


def sign_flip_p(differences: np.ndarray) -> float:
    """Return the two-sided p of the (pictures,) differences of two heads."""
    sizes, counts = np.unique(np.abs(differences).round(9), return_counts=True)
    counts, sizes = counts[sizes > EQUAL], sizes[sizes > EQUAL]
    far = abs(differences.sum()) - 1e-6  # sums of the same numbers in another order are equal
    if counts.sum() <= EXACT:
        each = np.repeat(sizes, counts)
        signs = 1 - 2 * (np.arange(1 << len(each))[:, None] >> np.arange(len(each)) & 1)
        return float((np.abs(signs @ each) >= far).mean())
    rng = np.random.default_rng(SEED)
    sums = np.zeros(FLIPS - 1)
    for size, count in zip(sizes, counts, strict=True):
        sums += size * (2.0 * _heads(rng, int(count), len(sums)) - count)
    return float(1 + (np.abs(sums) >= far).sum()) / FLIPS


def _heads(rng: np.random.Generator, coins: int, times: int) -> np.ndarray:
    """Return (times,) how many of some coins show heads."""
    if coins > 64:
        return rng.binomial(coins, 0.5, times)
    words = rng.integers(0, 1 << 64, times, dtype=np.uint64)  # ten times as fast
    return np.bitwise_count(words >> np.uint64(64 - coins))
