"""The numbers of a report: scores by type with their bounds, calibration, confusions, curves."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.answers.questions import given_answers
from frozen_vqa.pipeline.answers.targets import ClassScores
from frozen_vqa.pipeline.evaluate.clusters import UNITS
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
from frozen_vqa.pipeline.evaluate.statistics import Interval, mean_interval
from frozen_vqa.pipeline.metrics.accuracy import group_title, mean
from frozen_vqa.pipeline.metrics.find import find_metric
from frozen_vqa.pipeline.metrics.metric import Metric
from frozen_vqa.pipeline.runs.folder import LARGEST_TEXT, METRICS
from frozen_vqa.pipeline.runs.state import EpochLine, parse_metrics

BINS = 10
CONFUSED = 10
"""How many of the most frequent answers are compared with each other."""


@dataclass(frozen=True)
class Score:
    """The accuracy of one side on one group of questions, in percent."""

    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Group:
    """A group of questions: all of them, or those of a type.

    Attributes:
        kind: As in `Evaluation.groups`; the name says it where it is no type.
        scores: Of each side, in the order of the sides.
        floor: Percent that the one answer scores that is best for this group: `usual`.
        ceiling: Percent that the best known answer to each question scores.
    """

    name: str
    kind: str
    questions: int
    scores: tuple[Score, ...]
    floor: float
    usual: str
    ceiling: float


def group_scores(
    sides: Sequence[SeedGroup], classes: ClassScores, answers: Sequence[str]
) -> list[Group]:
    """Return the groups of questions, with the bounds of a head in each.

    `classes` has the score of each answer of the vocabulary `answers` on each question.
    """
    best, found = classes.best(), []
    percents = [side.percents().mean(0) for side in sides]  # over seeds
    for kind, name, mask in sides[0].first.groups():
        usual, floor = classes.usual(mask)
        found.append(
            Group(
                name=group_title(kind, name),
                kind=kind,
                questions=int(mask.sum()),
                scores=tuple(
                    _score(side, each, mask) for side, each in zip(sides, percents, strict=True)
                ),
                floor=100 * floor,
                usual=answers[usual],
                ceiling=100 * float(best[mask].mean()),
            )
        )
    return found


def _score(side: SeedGroup, percents: np.ndarray, mask: np.ndarray) -> Score:
    first = side.first
    accuracy = float(percents[mask].mean())
    if len(side.heads) == 1 and first.accuracy and first.scores is not None:
        metric = find_metric(first.accuracy.metric)  # rounded as in scores.json
        accuracy = metric.percent(mean(first.scores[mask].tolist()))
    interval = mean_interval(
        percents[mask], first.drawn[mask], least=0, largest=100, unit=UNITS[first.cluster_by]
    )
    return Score(accuracy, interval)


@dataclass(frozen=True)
class Calibration:
    """How well the probability of an answer tells its score.

    Attributes:
        bins: Per bin with questions: number of questions, mean probability, mean score.
        error: The expected calibration error, in points: the mean distance of the two, weighted by
            questions. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """

    bins: tuple[tuple[int, float, float], ...]
    error: float


def calibrate(probabilities: np.ndarray, scores: np.ndarray) -> Calibration:
    """Compare the (questions,) probabilities of the given answers with their scores in [0, 1]."""
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        bins.append(
            (int(inside.sum()), float(probabilities[inside].mean()), float(scores[inside].mean()))
        )
    error = sum(count * abs(sure - right) for count, sure, right in bins) / len(scores)
    return Calibration(tuple(bins), 100 * error)


@dataclass(frozen=True)
class Confusion:
    """What is answered where the most frequent answers are right.

    `counts` is (answers, answers + 1): rows are true, columns are given, the last one is any other
    answer.
    """

    answers: tuple[str, ...]
    counts: np.ndarray


def confuse(evaluation: Evaluation, metric: Metric) -> Confusion:
    """Count the given answers by the true one, which is the majority of a question's answers.

    Answers that the metric takes for one are one.
    """
    forms: dict[str, str] = {}  # how an answer was first written, by its normal form

    def key(answer: str) -> str:
        normal = metric.normalise(answer)
        forms.setdefault(normal, answer)
        return normal

    asked = given_answers(evaluation.table, metric)
    true = [Counter(map(key, given)).most_common(1)[0][0] for given in asked]
    given = [key(answer) for answer in evaluation.answers]
    names = [name for name, _ in Counter(true).most_common(CONFUSED)]
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names) + 1), dtype=int)
    for right, said in zip(true, given, strict=True):
        if right in place:
            counts[place[right], place.get(said, len(names))] += 1
    return Confusion(tuple(forms[name] for name in names), counts)


def read_curve(run: Path) -> list[EpochLine]:
    """Return the epochs of a training; none if no training wrote its metrics.jsonl."""
    try:
        return parse_metrics(read_file(run / METRICS, most=LARGEST_TEXT))
    except (OSError, ValueError, TypeError, RecursionError):
        return []
