"""VizWiz: only the prediction is normalised, and what cannot be answered is a task of its own.

Source: the official VizWiz API, vqaEval.py. Given answers stay as written, so one such as "T-shirt"
is never matched. Its table of contractions has curly apostrophes, but for the words below.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.accuracy import Figure
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric
from frozen_vqa.pipeline.metrics.vqa_accuracy import (
    CONTRACTED,
    leave_one_out_mean,
    normalise_python3,
)

ANSWERABLE = "answerable"

_STRAIGHT = ("ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've")
_STRAIGHT_KEYS = ("couldn'tve", "hadn'tve")
_TABLE = {
    key if key in _STRAIGHT_KEYS else key.replace("'", "’"): (
        word if word in _STRAIGHT else word.replace("'", "’")
    )
    for word in (*CONTRACTED.split(), "somebody'd")
    for key in (word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'")
}


class _Answer(TypedDict):
    answer: str


class _Entry(TypedDict):
    image: str
    question: str
    answers: list[_Answer]
    answer_type: NotRequired[str]
    answerable: NotRequired[int]


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    return Annotation(
        entry["image"],
        tuple(answer["answer"] for answer in entry["answers"]),
        answer_type=entry.get("answer_type", ""),
        groups={ANSWERABLE: "yes" if entry[ANSWERABLE] else "no"} if ANSWERABLE in entry else {},
    )


def normalise(answer: str) -> str:
    """Return a prediction as the VizWiz API rewrites it before comparing."""
    return normalise_python3(answer, _TABLE)


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    """Return average precision and F1 of finding what cannot be answered."""
    known = [one for one in answered if one.question.groups.get(ANSWERABLE)]
    if not known or not all(_is_number(one.entry.get(ANSWERABLE)) for one in known):
        return {}
    true = [one.question.groups[ANSWERABLE] == "no" for one in known]
    sure = [1 - one.entry[ANSWERABLE] for one in known]
    found = [value > 0.5 for value in sure]
    right = sum(a and b for a, b in zip(true, found, strict=True))
    f1 = 2 * right / (sum(true) + sum(found)) if sum(true) + sum(found) else 0.0
    average = average_precision(true, sure)
    return {
        "unanswerable, average precision": Figure(100 * average, len(known)),
        "unanswerable, F1": Figure(100 * f1, len(known)),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def average_precision(true: Sequence[bool], sure: Sequence[float]) -> float:
    """Return Σ (Rₙ - Rₙ₋₁) Pₙ over the values of `sure`, from the largest on; 0 if none is true."""
    total, right, before, ranked = 0.0, 0, 0, sorted(zip(sure, true, strict=True), reverse=True)
    for place, (value, is_true) in enumerate(ranked, 1):
        right += is_true
        if place == len(ranked) or ranked[place][0] != value:  # equal ones count together
            total += (right - before) * right / place
            before = right
    return total / right if right else 0.0


LAYOUT = Layout(metric="vizwiz", form=_Entry, annotation=_annotation, id_key="image", unknown=True)
METRICS = (
    Metric(
        name="vizwiz",
        rule="VizWiz accuracy: only the prediction is normalised",
        layout=LAYOUT,
        score=lambda answer, given: leave_one_out_mean(normalise(answer), given),
        normalise=normalise,
        unanswerable="unanswerable",
        figures=_figures,
    ),
)
