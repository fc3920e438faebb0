"""What the plainest answer and the best one score on a split, before a head is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.answers.vocabulary import CHOICES, Vocabulary, build_vocabulary
from frozen_vqa.pipeline.metrics.accuracy import mean
from frozen_vqa.pipeline.metrics.metric import Annotation, Metric


@dataclass(frozen=True)
class Bounds:
    """The bounds of a head on a split, in percent of its metric.

    Attributes:
        floor: Of the one answer, `usual`, that is best for all questions; with choices of a guess.
        ceiling: Of the best class for each question; with choices of the right one.
        classes: How many answers are classes; 0 with choices.
    """

    floor: float
    ceiling: float
    usual: str = ""
    classes: int = 0


def find_bounds(
    training: Sequence[Annotation], splits: Mapping[str, Sequence[Annotation]], metric: Metric
) -> dict[str, Bounds]:
    """Return the bounds on each split of a head that is trained with the default settings.

    A split with a question that has no given answer has no score and no bounds.

    Raises:
        ConfigError: if no answer of `training` is frequent enough to be a class.
    """
    vocabulary = CHOICES
    if not (metric.chooses and any(question.choices for question in training)):
        vocabulary = build_vocabulary(map(metric.given, training), normalise=metric.normalise)
    found = {}
    for name, questions in splits.items():
        counted = [question for question in questions if metric.counts(question)]
        if counted and all(map(metric.given, counted)):
            found[name] = _bounds(counted, vocabulary, metric)
    return found


def _bounds(questions: Sequence[Annotation], vocabulary: Vocabulary, metric: Metric) -> Bounds:
    if vocabulary == CHOICES:
        guesses = [1 / max(1, len(question.choices)) for question in questions]
        return Bounds(metric.percent(mean(guesses)), metric.percent(1.0))
    scores = class_scores(list(map(metric.given, questions)), vocabulary, metric=metric)
    usual, floor = scores.usual()
    ceiling = metric.percent(float(scores.best().mean()))
    return Bounds(metric.percent(floor), ceiling, vocabulary.answers[usual], len(vocabulary))
