"""The numbers of a report: scores by type with their bounds, calibration, confusions, curves."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.answers.targets import ClassScores
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
from frozen_vqa.pipeline.evaluate.statistics import Interval, mean_interval
from frozen_vqa.pipeline.metrics.vqa_accuracy import normalise
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
        kind: "overall", "answer type" or "question type".
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
    """Return all questions, then the types of answers and of questions, the largest first.

    `classes` has the score of each answer of the vocabulary `answers` on each question.
    """
    table = sides[0].first.table
    every = np.ones(len(table), dtype=bool)
    masks = [("overall", "overall", every)]
    for kind, types in (
        ("answer type", table.answer_types),
        ("question type", table.question_types),
    ):
        names = np.array(types)
        counts = Counter(name for name in types if name)
        masks += [(name, kind, names == name) for name, _ in counts.most_common()]
    owner = np.repeat(np.arange(len(table)), np.diff(classes.offsets))
    best, found = classes.best(), []
    for name, kind, mask in masks:
        inside = mask[owner]
        sums = np.bincount(classes.classes[inside], classes.scores[inside], minlength=len(answers))
        found.append(
            Group(
                name=name,
                kind=kind,
                questions=int(mask.sum()),
                scores=tuple(_score(side, name, kind, mask) for side in sides),
                floor=100 * float(sums.max()) / int(mask.sum()),
                usual=answers[int(sums.argmax())],
                ceiling=100 * float(best[mask].mean()),
            )
        )
    return found


def _score(side: SeedGroup, name: str, kind: str, mask: np.ndarray) -> Score:
    percents = side.percents().mean(0)  # over seeds
    pictures = side.first.table.image_rows[mask]
    accuracy = float(percents[mask].mean())
    official = side.first.accuracy
    if len(side.heads) == 1 and official:  # rounded as in scores.json
        by_type = official.by_answer_type if kind == "answer type" else official.by_question_type
        accuracy = official.overall if kind == "overall" else by_type[name]
    return Score(accuracy, mean_interval(percents[mask], pictures, least=0, largest=100))


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


def confuse(evaluation: Evaluation) -> Confusion:
    """Count the given answers by the true one, which is the majority of a question's answers."""
    forms: dict[str, str] = {}  # how an answer was first written, by its normal form

    def key(answer: str) -> str:
        normal = normalise(answer)
        forms.setdefault(normal, answer)
        return normal

    true = [key(Counter(given).most_common(1)[0][0]) for given in evaluation.table.answers]
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
