"""The paired difference of two heads on the same questions: what attention brings.

A side is one head, or several of the same settings that differ by their seeds. Then a question's
score is the mean over seeds: the interval says what other pictures would change, the standard
deviations what other seeds would.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.bootstrap import Interval, mean_interval
from frozen_vqa.pipeline.evaluate.evaluate import Evaluation
from frozen_vqa.pipeline.evaluate.mcnemar import McNemar, mcnemar


@dataclass(frozen=True)
class Difference:
    """Two sides on one group of questions, in percent and points.

    Attributes:
        group: "overall", or an answer type or question type.
        kind: "overall", "answer type" or "question type".
        questions: How many questions are in the group.
        ours: Accuracy of the first side.
        theirs: Accuracy of the second.
        difference: Ours minus theirs, in points.
        interval: 95 % bootstrap interval of the difference.
        test: McNemar's.
        ours_sd: Standard deviation of the first side's accuracy over seeds; None for one head.
        theirs_sd: That of the second.
    """

    group: str
    kind: str
    questions: int
    ours: float
    theirs: float
    difference: float
    interval: Interval
    test: McNemar
    ours_sd: float | None = None
    theirs_sd: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON: hundredths of a point, four digits of p."""
        values = {
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in vars(self).items()
            if name != "test"
        }
        test = asdict(self.test) | {"p": float(f"{self.test.p:.4g}")}
        return {**values, "interval": [round(bound, 2) for bound in self.interval], **test}


def compare(ours: Evaluation, theirs: Evaluation) -> list[Difference]:
    """Compare two heads; see `compare_sides`."""
    return compare_sides([ours], [theirs])


def compare_sides(ours: Sequence[Evaluation], theirs: Sequence[Evaluation]) -> list[Difference]:
    """Compare two sides question by question: overall, by answer type, by question type.

    Raises:
        MetricError: if they did not answer the same questions, or the split has no answers.
    """
    table = ours[0].table
    ids = list(table.question_ids)
    for other in (*ours[1:], *theirs):
        if list(other.table.question_ids) != ids:
            raise MetricError(
                f"{ours[0].run} and {other.run} did not answer the same questions; "
                f"compare heads that were trained from one cache"
            )
    each = percents([*ours, *theirs])
    scores = each[: len(ours)], each[len(ours) :]
    rows = [
        _difference(
            "overall", "overall", np.ones(len(table), dtype=bool), table.image_rows, *scores
        )
    ]
    for kind, types in (
        ("answer type", table.answer_types),
        ("question type", table.question_types),
    ):
        rows += [
            _difference(
                group, kind, np.array([t == group for t in types]), table.image_rows, *scores
            )
            for group in _by_frequency(types)
        ]
    return rows


def percents(heads: Sequence[Evaluation]) -> np.ndarray:
    """Return what heads score with each question, in percent: (heads, questions).

    Raises:
        MetricError: if the split has no answers.
    """
    scores = [evaluation.scores for evaluation in heads if evaluation.scores is not None]
    if len(scores) < len(heads):
        names = " and ".join(str(evaluation.run) for evaluation in heads)
        raise MetricError(f"split {heads[0].split!r} has no answers: {names} cannot be compared")
    return 100 * np.stack(scores)


def _by_frequency(types: Sequence[str]) -> list[str]:
    names, counts = np.unique([name for name in types if name], return_counts=True)
    return [str(names[i]) for i in np.lexsort((names, -counts))]


def _difference(
    group: str,
    kind: str,
    mask: np.ndarray,
    pictures: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
) -> Difference:
    ours, theirs = ours[:, mask], theirs[:, mask]
    mine, other = ours.mean(0), theirs.mean(0)  # over seeds
    return Difference(
        group=group,
        kind=kind,
        questions=int(mask.sum()),
        ours=float(mine.mean()),
        theirs=float(other.mean()),
        difference=float((mine - other).mean()),
        interval=mean_interval(mine - other, pictures[mask]),
        test=mcnemar(mine, other),
        ours_sd=deviation(ours.mean(1)),
        theirs_sd=deviation(theirs.mean(1)),
    )


def deviation(accuracies: Sequence[float] | np.ndarray) -> float | None:
    """Return the sample standard deviation of the accuracies of several seeds; None for one."""
    return float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
