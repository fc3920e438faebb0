"""Heads that differ by their seed alone: which runs they are, and the spread of their scores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from frozen_vqa.pipeline.config import SEEDS
from frozen_vqa.pipeline.errors import ConfigError, MetricError
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.runs.run import Run

Spread = tuple[float, float | None]
"""Mean over seeds, and sample standard deviation; None for a single seed."""


@dataclass(frozen=True)
class SeedGroup:
    """Evaluations, at least one, on one split of heads that differ by their seed alone."""

    heads: tuple[Evaluation, ...]

    @property
    def first(self) -> Evaluation:
        """The head that the group is named after."""
        return self.heads[0]

    @property
    def name(self) -> str:
        seeds = f" ({len(self.heads)} seeds)" if len(self.heads) > 1 else ""
        return f"{self.first.name}{seeds}"

    def percents(self) -> np.ndarray:
        """Return the score of each head on each question, in percent: (heads, questions).

        Raises:
            MetricError: if the split has no answers.
        """
        scores = [head.scores for head in self.heads if head.scores is not None]
        if len(scores) < len(self.heads):
            raise MetricError(
                f"split {self.first.split!r} has no answers, so {self.name} has no accuracy and "
                f"cannot be compared; evaluate a split that has answers"
            )
        return 100 * np.stack(scores)

    def spreads(self) -> dict[str, Spread]:
        """Return the accuracy in percent: "overall", then by answer type.

        The accuracy of a single head is the official one, which is rounded. A mean over seeds is of
        unrounded accuracies, as in a comparison.

        Raises:
            MetricError: if the split has no answers.
        """
        scores, types = self.percents(), np.array(self.first.table.answer_types)
        official = self.first.accuracy
        assert official is not None  # because there are scores
        by_type = {"overall": official.overall, **dict(sorted(official.by_answer_type.items()))}
        if len(self.heads) == 1:
            return {name: (value, None) for name, value in by_type.items()}
        groups = {name: scores[:, types == name] for name in by_type} | {"overall": scores}
        return {name: (float(g.mean()), deviation(g.mean(1))) for name, g in groups.items()}

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold: the evaluation of a single head, or a summary."""
        if len(self.heads) == 1:
            return self.first.to_json()
        by_type = self.spreads()
        return {
            "fusion": self.first.fusion,
            "split": self.first.split,
            "seeds": [head.seed for head in self.heads],
            "mean": {name: round(mean, 2) for name, (mean, _) in by_type.items()},
            "sd": {name: round(sd, 2) for name, (_, sd) in by_type.items() if sd is not None},
            "runs": [head.to_json() for head in self.heads],
        }


def deviation(accuracies: np.ndarray) -> float | None:
    """Return the sample standard deviation of the accuracies of several seeds; None for one."""
    return float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Return groups of runs with the same settings and different seeds, in the given order."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            seeds = {other.config.seed for other in group}
            if run.config.seed not in seeds and not _difference(group[0], run):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def require_one_group(runs: Sequence[Run]) -> None:
    """Raise `ConfigError` unless all runs have the same settings, and different seeds."""
    first, *rest = group_runs(runs)
    if not rest:
        return
    run = rest[0][0]
    if different := _difference(first[0], run):
        raise ConfigError(
            f"{first[0].path} and {run.path} differ by more than their seed: {different}. Give "
            f"--run only runs that differ by their seed, and --compare all others."
        )
    same = next(other for other in first if other.config.seed == run.config.seed)
    raise ConfigError(
        f"{same.path} and {run.path} both have seed {run.config.seed}; the spread over seeds needs "
        f"runs that were trained with different ones (--seed)"
    )


def _difference(one: Run, other: Run) -> str:
    """Name a setting, other than a seed, in which two runs differ; "" if there is none."""
    theirs = asdict(other.config)
    for name, value in asdict(one.config).items():
        if name not in SEEDS and theirs[name] != value:
            return f"{name} is {value!r} and {theirs[name]!r}"
    if one.config.answers_file and one.vocabulary != other.vocabulary:
        return "they were given different answers"
    return ""
