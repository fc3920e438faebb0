"""How often 95 % intervals hold the truth, and how often tests reject when neither head is better.

    python -m benchmarks.statistics [--samples 2000] [--seed 0] [--quick] [--json] [--out FILE]

Each sample is a made-up split whose true accuracy is known: 60 or 95 %. Questions about a picture
are correlated, scores are 0, 0.3, 0.6, 0.9 and 1 or only 0 and 1, and pictures have one question,
five, or an uneven number (geometric, five on average). `worth` is as in
`pipeline/evaluate/statistics.py`. A cell is the lowest and the highest of the six kinds of data; a
share of 2,000 samples has a standard error of 0.5 %.

The intervals are ours, of the accuracy and of the difference of two heads; Student's t on the plain
scale; and three of a bootstrap over pictures: percentiles, bias-corrected and accelerated (BCa),
and studentised. The tests are ours and McNemar's, which counts questions, over a quarter of the
samples.

Source of the bootstraps: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 12
to 14.
"""

import argparse
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from benchmarks.harness import Json, finish, machine, show
from frozen_vqa.pipeline.evaluate.statistics import EQUAL, _t, mean_interval, sign_flip

ACCURACIES = (60, 95)
WORTHS = (10, 20, 30, 50, 75, 100, 200)
TESTED = (10, 30, 100)
SIZES = ("one", "five", "uneven")
SCORES = np.array([0, 0.3, 0.6, 0.9, 1])
SHARES = {  # of each score, by accuracy and kind
    (60, "fractions"): (0.32, 0.06, 0.07, 0.10, 0.45),
    (95, "fractions"): (0.03, 0.02, 0.01, 0.02, 0.92),
    (60, "0 and 1"): (0.40, 0, 0, 0, 0.60),
    (95, "0 and 1"): (0.05, 0, 0, 0, 0.95),
}
PARTS = {"picture": 0.15, "picture and head": 0.15, "question": 0.40, "question and head": 0.30}
"""Of the variance of what decides a score: both heads share the first and the third."""

RESAMPLES = 1_000
CHUNK = 100

Bounds = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """Made-up splits: (2 heads, all questions) scores in percent, split after split.

    `counts` are the (splits, pictures) numbers of questions.
    """

    scores: np.ndarray
    counts: np.ndarray

    def sums(self) -> np.ndarray:
        """Return the (splits, pictures) sums of the first head's scores."""
        owner = np.repeat(np.arange(self.counts.size), self.counts.ravel())
        return np.bincount(owner, self.scores[0]).reshape(self.counts.shape)

    def splits(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield for each split the (questions,) scores of both heads, and their pictures."""
        ends = np.cumsum(self.counts.sum(1))
        for scores, counts in zip(
            np.split(self.scores, ends[:-1], axis=1), self.counts, strict=True
        ):
            yield scores[0], scores[1], np.repeat(np.arange(len(counts)), counts)


def draw(
    rng: np.random.Generator, samples: int, worth: int, *, accuracy: int, kind: str, size: str
) -> Sample:
    """Draw splits of two heads that are equally good."""
    uneven = size == "uneven"
    pictures = round(worth * 1.8) if uneven else worth  # geometric with mean 5: K = pictures / 1.8
    shape = (samples, pictures)
    counts = rng.geometric(0.2, shape) if uneven else np.full(shape, 1 if size == "one" else 5)
    owner = np.repeat(np.arange(counts.size), counts.ravel())
    latent = np.zeros((2, len(owner)))
    for part, variance in PARTS.items():
        heads = 2 if part.endswith("head") else 1
        if part.startswith("picture"):
            effect = rng.normal(size=(heads, counts.size))[:, owner]
        else:
            effect = rng.normal(size=(heads, len(owner)))
        latent += math.sqrt(variance) * effect
    limits = [
        NormalDist().inv_cdf(share) if share < 1 else math.inf
        for share in np.cumsum(SHARES[accuracy, kind])[:-1]
    ]
    return Sample(100 * SCORES[np.searchsorted(np.array(limits), latent)], counts)


def others(sums: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> dict[str, Bounds]:
    """Return the intervals that are not ours, of (samples, pictures) sums and counts."""
    pictures, total = sums.shape[1], counts.sum(1)
    mean = sums.sum(1) / total
    residuals = sums - mean[:, None] * counts
    correction = math.sqrt(pictures / (pictures - 1))
    error = correction * np.sqrt((residuals**2).sum(1)) / total
    t = _t(pictures - 1)
    drawn = rng.multinomial(pictures, np.full(pictures, 1 / pictures), RESAMPLES).astype(float)
    sizes = drawn @ counts.T
    means = drawn @ sums.T / sizes  # (resamples, samples)
    squares = drawn @ (sums**2).T - 2 * means * (drawn @ (sums * counts).T)
    squares += means**2 * (drawn @ (counts**2).T)
    errors = correction * np.sqrt(np.maximum(squares, 0)) / sizes
    away = means - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        student = np.where(np.abs(away) < EQUAL, 0, away / np.where(errors < EQUAL, 0, errors))
        least, largest = np.quantile(student, (0.025, 0.975), axis=0, method="closest_observation")
        outer = np.where(error < EQUAL, 0, error)
        studentised = (mean - largest * outer, mean - least * outer)
        leave_one_out = (sums.sum(1, keepdims=True) - sums) / (total[:, None] - counts)
        pull = leave_one_out.mean(1, keepdims=True) - leave_one_out
        skew = np.nan_to_num((pull**3).sum(1) / (6 * (pull**2).sum(1) ** 1.5))
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return {
        "t": (mean - t * error, mean + t * error),
        "percentiles": (low, high),
        "BCa": _bca(np.sort(means, axis=0), mean, skew),
        "studentised": studentised,
    }


def _bca(means: np.ndarray, mean: np.ndarray, skew: np.ndarray) -> Bounds:
    """Return the percentiles of sorted (resamples, samples) means, moved for bias and skewness."""
    normal = NormalDist()
    below = ((means < mean).mean(0) + (means <= mean).mean(0)) / 2
    bias = np.array([normal.inv_cdf(min(max(share, 1e-6), 1 - 1e-6)) for share in below])
    bounds = []
    for z in (normal.inv_cdf(0.025), normal.inv_cdf(0.975)):
        moved = bias + (bias + z) / (1 - skew * (bias + z))
        rows = np.array([round(normal.cdf(place) * (len(means) - 1)) for place in moved])
        bounds.append(means[rows, np.arange(len(mean))])
    return bounds[0], bounds[1]


def holds(low: np.ndarray | float, high: np.ndarray | float, truth: float) -> np.ndarray:
    """Return whether intervals hold the truth."""
    return np.asarray((low <= truth + EQUAL) & (high >= truth - EQUAL))


def measure_intervals(sample: Sample, accuracy: int, rng: np.random.Generator) -> Iterator[Json]:
    """Yield one JSON object a split: by interval, whether it holds the truth; None without one."""
    intervals = others(sample.sums(), sample.counts.astype(float), rng)
    found = {name: holds(*bounds, accuracy) for name, bounds in intervals.items()}
    for i, (one, other, pictures) in enumerate(sample.splits()):
        ours = mean_interval(one, pictures, least=0, largest=100, enough=0).bounds
        apart = mean_interval(one - other, pictures, least=-100, largest=100, enough=0).bounds
        yield {name: bool(each[i]) for name, each in found.items()} | {
            "ours": ours and bool(holds(*ours, accuracy)),
            "difference": apart and bool(holds(*apart, 0)),
            "no spread": ours is None,
        }


def measure_tests(sample: Sample) -> Iterator[Json]:
    """Yield one JSON object a split: by test, whether it rejects at 0.05."""
    for one, other, pictures in sample.splits():
        test = sign_flip(one, other, pictures)
        yield {
            "ours": test.p <= 0.05,
            "McNemar": mcnemar_p(test.ours_better, test.theirs_better) <= 0.05,
        }


def mcnemar_p(ahead: int, behind: int) -> float:
    """Return the exact two-sided p of McNemar's test."""
    flips = ahead + behind
    tail = sum(math.comb(flips, i) for i in range(min(ahead, behind) + 1))
    return min(1.0, 2 * tail / 2**flips)


def shares(found: list[Json]) -> dict[str, float]:
    """Return percent of yes among the yes and no of each name."""
    known = {name: [each[name] for each in found if each[name] is not None] for name in found[0]}
    return {name: 100 * float(np.mean(each)) for name, each in known.items() if each}


def measure(samples: int, worths: tuple[int, ...], seed: int) -> Json:
    """Return, by accuracy and worth, the lowest and highest share over six kinds of data."""
    result: Json = {"coverage": [], "level": []}
    for accuracy, worth in itertools.product(ACCURACIES, worths):
        cells: dict[str, dict[str, list[float]]] = {
            "coverage": defaultdict(list),
            "level": defaultdict(list),
        }
        for size, kind in itertools.product(SIZES, ("fractions", "0 and 1")):
            rng = np.random.default_rng([seed, accuracy, worth, SIZES.index(size), len(kind)])
            found: dict[str, list[Json]] = {"coverage": [], "level": []}
            for start in range(0, samples, CHUNK):
                how = {"accuracy": accuracy, "kind": kind, "size": size}
                sample = draw(rng, min(CHUNK, samples - start), worth, **how)  # type: ignore[arg-type]
                found["coverage"] += measure_intervals(sample, accuracy, rng)
                if start < samples / 4 and worth in TESTED:
                    found["level"] += measure_tests(sample)
            for part, each in found.items():
                for name, share in shares(each).items() if each else ():
                    cells[part][name].append(share)
        for part, columns in cells.items():
            if not columns:
                continue
            row = {name: [min(values), max(values)] for name, values in columns.items()}
            result[part].append({"accuracy": accuracy, "worth": worth} | row)
    return result


def _rows(found: list[Json]) -> list[Json]:
    return [
        {
            name: f"{value[0]:.1f}-{value[1]:.1f}" if isinstance(value, list) else str(value)
            for name, value in row.items()
        }
        for row in found
    ]


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=2000, help="of each kind of data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    samples, worths = (40, WORTHS[:2]) if options.quick else (options.samples, WORTHS)
    result: Json = {"machine": machine(), "samples": samples}
    result |= measure(samples, worths, options.seed)
    show("95 % intervals: how often they hold the truth, %", _rows(result["coverage"]))
    show("Two equal heads: how often p is at most 0.05, %", _rows(result["level"]))
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
