"""TallyQA: equal numbers, and the root of the mean squared error.

Source: manoja328/tallyqacode at c266303, eval_extra.py. Its complex questions are those of "amt",
and its simple ones all others that `issimple` says are; some are in neither. Papers split by
`issimple` alone, so there are both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.accuracy import Figure, mean
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric, equal_to_one
from frozen_vqa.pipeline.sources.example import Id


class _Entry(TypedDict):
    question_id: Id
    image: str
    question: str
    answer: int
    data_source: str
    issimple: NotRequired[bool]


def groups_of(data_source: str, is_simple: bool | None) -> dict[str, str]:
    """Return the groups of a question: of the script, and by `issimple`, which may be unknown."""
    simple = "" if is_simple is None else "simple" if is_simple else "complex"
    script = "complex" if data_source == "amt" else simple if is_simple else ""
    return {"difficulty": script, "issimple": simple}


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    groups = groups_of(entry["data_source"], entry.get("issimple"))
    return Annotation(entry["question_id"], (str(entry["answer"]),), groups=groups)


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    found = {"RMSE": _rmse(answered)}
    for kind in ("difficulty", "issimple"):
        for name in ("simple", "complex"):
            inside = [one for one in answered if one.question.groups.get(kind) == name]
            if inside:
                found[f"RMSE, {name} by {kind}"] = _rmse(inside)
    return found


def _rmse(answered: Sequence[Answered]) -> Figure:
    squares = [
        float(_count(one.answer, one) - _count(one.question.answers[0], one)) ** 2
        for one in answered
    ]
    return Figure(math.sqrt(mean(squares)), len(squares))


def _count(answer: str, one: Answered) -> int:
    try:
        return int(answer)
    except ValueError:
        raise MetricError(
            f"question {one.question.question_id}: the answer {answer!r:.40} is no whole number, "
            f"and the root of the mean squared error needs one. Answer with digits."
        ) from None


LAYOUT = Layout(metric="tallyqa", form=_Entry, annotation=_annotation)
METRICS = (
    Metric(
        name="tallyqa",
        rule="TallyQA accuracy: equal numbers",
        layout=LAYOUT,
        score=equal_to_one(),
        figures=_figures,
    ),
)
