"""The paired difference of two heads, or groups of seeds, on the same questions.

The score of a group on a question is the mean over its seeds. The interval of a difference says
what other pictures would change; the standard deviations say what other seeds would change.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.clusters import UNITS
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup, deviation
from frozen_vqa.pipeline.evaluate.statistics import Interval, SignFlip, mean_interval, sign_flip


@dataclass(frozen=True)
class Difference:
    """Two sides on one group of questions, in percent and points.

    Attributes:
        group: "overall", or the name of a group.
        kind: "overall", "answer type", "question type", or a kind of group of the data.
        interval: 95 % interval of the difference.
        ours_sd, theirs_sd: Standard deviation of a side's accuracy over seeds; None for one head.
    """

    group: str
    kind: str
    questions: int
    ours: float
    theirs: float
    difference: float
    interval: Interval
    test: SignFlip
    ours_sd: float | None = None
    theirs_sd: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold: hundredths of a point, two digits of p."""
        values = {
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in vars(self).items()
            if name not in ("interval", "test")
        }
        test = asdict(self.test) | {"p": float(f"{self.test.p:.2g}")}
        return {**values, **self.interval.to_json(), **test}


def compare(ours: SeedGroup, theirs: SeedGroup) -> list[Difference]:
    """Compare two sides question by question, over all and in each group.

    Raises:
        MetricError: if they did not answer the same questions, or the split has no answers.
    """
    table = ours.first.table
    for other in (*ours.heads[1:], *theirs.heads):
        if list(other.table.question_ids) != list(table.question_ids):
            raise MetricError(
                f"{ours.first.run} and {other.run} did not answer the same questions; "
                f"compare heads that were trained from one cache"
            )
    clusters, unit = ours.first.drawn, UNITS[ours.first.cluster_by]
    mine, other_scores = ours.percents(), theirs.percents()
    return [
        _difference(name, kind, clusters[mask], unit, mine[:, mask], other_scores[:, mask])
        for kind, name, mask in ours.first.groups()
    ]


def _difference(
    group: str,
    kind: str,
    clusters: np.ndarray,
    unit: str,
    ours: np.ndarray,
    theirs: np.ndarray,
) -> Difference:
    """Compare (heads, questions) percents of two sides on the questions of one group."""
    mine, other = ours.mean(0), theirs.mean(0)  # over seeds
    return Difference(
        group=group,
        kind=kind,
        questions=len(clusters),
        ours=float(mine.mean()),
        theirs=float(other.mean()),
        difference=float((mine - other).mean()),
        interval=mean_interval(mine - other, clusters, least=-100, largest=100, unit=unit),
        test=sign_flip(mine, other, clusters),
        ours_sd=deviation(ours.mean(1)),
        theirs_sd=deviation(theirs.mean(1)),
    )
