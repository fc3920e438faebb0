"""Means of scores, over all questions and by group, each with its number of questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from frozen_vqa.pipeline.errors import MetricError

ANSWER_TYPE, QUESTION_TYPE = "answer_type", "question_type"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number over some questions, in percent unless its unit is another."""

    value: float
    questions: int
    unit: str = "%"


def group_title(kind: str, name: str) -> str:
    """Return how a group is called where groups of several kinds stand."""
    known = kind.replace("_", " ") in ("overall", "answer type", "question type")
    return name if known else f"{kind}: {name}"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The scores of a set of questions under one metric, in percent.

    Attributes:
        groups: Means by kind of group, such as "answer_type", then by name, in order of first
            occurrence.
        figures: What a data set reports beside its accuracy, such as "consistency".
        notes: What the official rule counts without a word, such as questions that have no
            prediction.
    """

    overall: float
    groups: Mapping[str, Mapping[str, Figure]]
    questions: int
    metric: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def by_answer_type(self) -> dict[str, float]:
        """Mean by answer type; empty without types."""
        return self._by(ANSWER_TYPE)

    @property
    def by_question_type(self) -> dict[str, float]:
        """Mean by question type; empty without types."""
        return self._by(QUESTION_TYPE)

    def _by(self, kind: str) -> dict[str, float]:
        return {name: one.value for name, one in self.groups.get(kind, {}).items()}

    def to_json(self) -> dict[str, object]:
        """Return a JSON object: accuracy (overall and by answer type), by_question_type, …"""
        overall = {"overall": self.overall}
        groups = {
            kind: {name: _json("accuracy", one) for name, one in means.items()}
            for kind, means in self.groups.items()
        }
        figures = {
            name: {**_json("value", one), "unit": one.unit} for name, one in self.figures.items()
        }
        return {
            "accuracy": overall | self.by_answer_type | overall,
            "by_question_type": self.by_question_type,
            "groups": groups,
            "questions": self.questions,
            "metric": self.metric,
            **({"figures": figures} if figures else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def _json(name: str, figure: Figure) -> dict[str, float]:
    return {name: figure.value, "questions": figure.questions}


def mean(values: Sequence[float]) -> float:
    """Return the mean, added up from left to right as the official tools do.

    `sum` adds in another way from Python 3.12 on.
    """
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def summarise(
    scores: Sequence[float],
    kinds: Mapping[str, Sequence[str]],
    *,
    metric: str,
    percent: Callable[[float], float],
) -> Accuracy:
    """Return the mean of `scores` in [0, 1], over all questions and by group.

    Args:
        kinds: By kind of group the name of each question's; a question with "" is in no mean.
        percent: Returns a score in percent, rounded if the metric rounds.

    Raises:
        MetricError: if there are no questions.
        ValueError: if a kind has not one name for each score.
    """
    if not scores:
        raise MetricError(
            "There are no questions to score, and a mean needs at least one. "
            "Choose a split that has questions with answers."
        )
    groups: dict[str, dict[str, Figure]] = {}
    for kind, names in kinds.items():
        inside: dict[str, list[float]] = {}
        for score, name in zip(scores, names, strict=True):
            if name:
                inside.setdefault(name, []).append(score)
        if inside:
            groups[kind] = {n: Figure(percent(mean(s)), len(s)) for n, s in inside.items()}
    return Accuracy(percent(mean(scores)), groups, len(scores), metric)
