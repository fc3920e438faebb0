"""A head's answers to a split, and what they score."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.cache import SplitTable
from frozen_vqa.cache.left_out import NONE, LeftOutQuestions
from frozen_vqa.pipeline.evaluate.clusters import By
from frozen_vqa.pipeline.evaluate.statistics import Interval
from frozen_vqa.pipeline.metrics.accuracy import Accuracy
from frozen_vqa.pipeline.runs.data import ScoredData


@dataclass(frozen=True)
class Evaluation:
    """A head's answers to the questions of one split, and what they score.

    Attributes:
        results: The file in the official form; None if nothing was written.
        scores: (questions,) in [0, 1]. None where the split has no answers; then the accuracy, the
            ceiling and the interval are None too.
        ceiling: Percent that a head would score that always picks the best answer it knows, or the
            best choice.
        chooses: Whether the head scores the choices of each question.
        interval: 95 % interval of the overall accuracy, in percent.
        data: What it is a score on.
        left_out: Questions that the cache lacks, and why; the results answer them with "".
        variant: "" for the head itself; see `evaluate`.
        clusters: (questions,) equal for the questions that are drawn together; None: those of a
            picture. See `clusters.py`.
        caveats: What the scores need beside them, such as that the encoders are untrained.
        not_written: Why an extra file is missing; the results are there all the same.
    """

    run: Path
    fusion: str
    split: str
    table: SplitTable
    answers: Sequence[str]
    results: Path | None
    scores: np.ndarray | None = None
    accuracy: Accuracy | None = None
    ceiling: float | None = None
    chooses: bool = False
    interval: Interval | None = None
    data: ScoredData | None = None
    left_out: LeftOutQuestions = NONE
    seed: int = 0
    variant: str = ""
    logits: Path | None = None
    cluster_by: By = "image"
    clusters: np.ndarray | None = None
    caveats: tuple[str, ...] = ()
    not_written: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run folder, with the variant if there is one."""
        name = self.run.absolute().name  # "." alone has none
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def drawn(self) -> np.ndarray:
        """What intervals and tests take as drawn at random: (questions,), as `clusters`."""
        return self.table.image_rows if self.clusters is None else self.clusters

    def groups(self) -> list[tuple[str, str, np.ndarray]]:
        """Return kind and name of each group of questions, and which are in it: (questions,) bool.

        All questions come first, then each kind with its most frequent group first. A question
        without a name is in no group of that kind.
        """
        found = [("overall", "overall", np.ones(len(self.table), dtype=bool))]
        kinds = {
            "answer type": self.table.answer_types,
            "question type": self.table.question_types,
            **self.table.groups,
        }
        for kind, column in kinds.items():
            names, which, counts = np.unique(
                np.array(column), return_inverse=True, return_counts=True
            )
            order = np.lexsort((names, -counts))
            found += [(kind, str(names[i]), which == i) for i in order if names[i]]
        return found

    def take(self, rows: np.ndarray) -> "Evaluation":
        """Return the evaluation of some of the questions, before it has scores."""
        if len(rows) == len(self.table):
            return self
        return replace(
            self,
            table=self.table.take(rows),
            answers=[self.answers[row] for row in rows.tolist()],
            clusters=None if self.clusters is None else self.clusters[rows],
        )

    def to_json(self) -> dict[str, Any]:
        found = self.accuracy.to_json() if self.accuracy else {"questions": len(self.answers)}
        return {
            "run": str(self.run),
            "fusion": self.fusion,
            "split": self.split,
            **found,
            **(asdict(self.data) if self.data else {}),
            "ceiling": self.ceiling,
            **(self.interval.to_json() if self.interval else {"interval": None}),
            "left_out": len(self.left_out),
            "left_out_because": self.left_out.to_json(),
            "seed": self.seed,
            **({"cluster_by": self.cluster_by} if self.cluster_by != "image" else {}),
            **({"caveats": list(self.caveats)} if self.caveats else {}),
            **({"results": str(self.results)} if self.results else {}),
            **({"logits": str(self.logits)} if self.logits else {}),
            **({"not_written": list(self.not_written)} if self.not_written else {}),
        }
