"""Several seeds a side: which runs belong together, and the mean and spread of what they score."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from frozen_vqa.pipeline.config import SEEDS
from frozen_vqa.pipeline.errors import ConfigError, MetricError
from frozen_vqa.pipeline.evaluate.compare import deviation, percents
from frozen_vqa.pipeline.evaluate.evaluate import Evaluation
from frozen_vqa.pipeline.runs.run import Run

Spread = tuple[float, float | None]
"""Mean over seeds, and sample standard deviation; None where there is one seed."""


def sides(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs in groups of the same settings and different seeds, in the given order."""
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


def require_one_side(runs: Sequence[Run]) -> None:
    """Raise `ConfigError` unless all runs have the same settings, and different seeds."""
    for run in runs[1:]:
        if different := _difference(runs[0], run):
            raise ConfigError(
                f"{runs[0].path} and {run.path} are no seeds of one training: {different}. Give "
                f"runs that differ by their seed to --run, others to --compare."
            )
    seen: dict[int, Run] = {}
    for run in runs:
        if other := seen.get(run.config.seed):
            raise ConfigError(
                f"{other.path} and {run.path} both have seed {run.config.seed}; the spread over "
                f"seeds needs runs that were trained with different ones (--seed)"
            )
        seen[run.config.seed] = run


def _difference(one: Run, other: Run) -> str:
    """Say in which setting two runs differ, but for the seeds; "" if in none."""
    theirs = asdict(other.config)
    for name, value in asdict(one.config).items():
        if name not in SEEDS and theirs[name] != value:
            return f"{name} is {value!r} and {theirs[name]!r}"
    if one.config.answers_file and one.vocabulary != other.vocabulary:
        return "they were given different answers"
    return ""


def side_name(side: Sequence[Evaluation]) -> str:
    """Return how a side is called in a table."""
    return side[0].name if len(side) == 1 else f"{side[0].name} ({len(side)} seeds)"


def spreads(side: Sequence[Evaluation]) -> dict[str, Spread]:
    """Return the accuracy in percent by "overall", then by answer type.

    That of one head is the official one. A mean is of what the heads score before that is rounded,
    as in a comparison.

    Raises:
        MetricError: if the split has no answers.
    """
    official = side[0].accuracy
    if official is None:
        raise MetricError(f"split {side[0].split!r} has no answers, so there is no accuracy")
    by_type = {"overall": official.overall, **dict(sorted(official.by_answer_type.items()))}
    if len(side) == 1:
        return {name: (value, None) for name, value in by_type.items()}
    scores, types = percents(side), np.array(side[0].table.answer_types)
    groups = {name: scores[:, types == name] for name in by_type} | {"overall": scores}
    return {name: (float(of.mean()), deviation(of.mean(1))) for name, of in groups.items()}


def side_json(side: Sequence[Evaluation]) -> dict[str, Any]:
    """Return plain values for JSON: of one head its evaluation, of several what they come to."""
    if len(side) == 1:
        return side[0].to_json()
    by_type = spreads(side)
    return {
        "fusion": side[0].fusion,
        "split": side[0].split,
        "seeds": [evaluation.seed for evaluation in side],
        "mean": {name: round(mean, 2) for name, (mean, _) in by_type.items()},
        "sd": {name: round(sd, 2) for name, (_, sd) in by_type.items() if sd is not None},
        "runs": [evaluation.to_json() for evaluation in side],
    }
