"""The paired difference of two heads on the same questions: what attention brings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.bootstrap import Interval, mean_interval
from pipeline.errors import MetricError
from pipeline.evaluate import Evaluation


@dataclass(frozen=True)
class Difference:
    """Two heads on one group of questions, in percent and points.

    Attributes:
        group: "overall", or an answer type or question type.
        kind: "overall", "answer type" or "question type".
        questions: How many questions are in the group.
        ours: Accuracy of the first head.
        theirs: Accuracy of the second.
        difference: Ours minus theirs, in points.
        interval: 95 % bootstrap interval of the difference.
    """

    group: str
    kind: str
    questions: int
    ours: float
    theirs: float
    difference: float
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, rounded to hundredths of a point."""
        return {
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        } | {"interval": [round(bound, 2) for bound in self.interval]}


def compare(ours: Evaluation, theirs: Evaluation) -> list[Difference]:
    """Compare two heads question by question: overall, by answer type, by question type.

    Raises:
        MetricError: if they did not answer the same questions, or the split has no answers.
    """
    if ours.scores is None or theirs.scores is None:
        raise MetricError(
            f"split {ours.split!r} has no answers: {ours.run} and {theirs.run} cannot be compared"
        )
    if list(ours.table.question_ids) != list(theirs.table.question_ids):
        raise MetricError(
            f"{ours.run} and {theirs.run} did not answer the same questions; "
            f"compare heads that were trained from one cache"
        )
    table, scores = ours.table, (100 * ours.scores, 100 * theirs.scores)
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
    ours, theirs = ours[mask], theirs[mask]
    return Difference(
        group=group,
        kind=kind,
        questions=int(mask.sum()),
        ours=float(ours.mean()),
        theirs=float(theirs.mean()),
        difference=float((ours - theirs).mean()),
        interval=mean_interval(ours - theirs, pictures[mask]),
    )
