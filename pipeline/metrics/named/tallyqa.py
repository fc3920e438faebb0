"""TallyQA: equal numbers, and the root of the mean squared error.

Source: manoja328/tallyqacode at c266303, eval_extra.py. Its complex questions are those of "amt",
and its simple ones all others that `issimple` says are; some are in neither. Papers split by
`issimple` alone, so there are both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.accuracy import Figure, group_title, mean
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric, equal_to_one
from frozen_vqa.pipeline.sources.example import Id


class _Entry(TypedDict):
    question_id: Id
    image: str
    question: str
    answer: int
    data_source: str
    issimple: NotRequired[bool]


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    groups = {"source": entry["data_source"]}
    if "issimple" in entry:
        groups["simple"] = "yes" if entry["issimple"] else "no"
    return Annotation(entry["question_id"], (str(entry["answer"]),), groups=groups)


def _groups(question: Annotation) -> dict[str, str]:
    """Return the part of the script that a question is in, if it is in one."""
    if question.groups.get("source") == "amt":
        return {"part": "complex (amt)"}
    return {"part": "simple (not amt)"} if question.groups.get("simple") == "yes" else {}


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    """Return the error over all questions, by the parts of the script, and by `issimple`."""
    parts: dict[str, list[Answered]] = {}
    for one in answered:
        groups = {**one.question.groups, **_groups(one.question)}
        for kind in ("part", "simple"):
            if name := groups.get(kind):
                parts.setdefault(group_title(kind, name), []).append(one)
    return {
        "RMSE": _rmse(answered),
        **{f"RMSE, {name}": _rmse(inside) for name, inside in sorted(parts.items())},
    }


def _rmse(answered: Sequence[Answered]) -> Figure:
    squares = [
        float(_count(one.answer, one) - _count(one.question.answers[0], one)) ** 2
        for one in answered
    ]
    return Figure(math.sqrt(mean(squares)), len(squares), unit="")


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
        groups=_groups,
        figures=_figures,
    ),
)
