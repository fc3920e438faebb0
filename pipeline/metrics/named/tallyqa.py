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


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    groups = {"source": entry["data_source"]}
    if "issimple" in entry:
        groups["simple"] = "yes" if entry["issimple"] else "no"
    return Annotation(entry["question_id"], (str(entry["answer"]),), groups=groups)


def _parts(question: Annotation) -> list[str]:
    """Return the parts that a question is in: of the script, and by `issimple`, if it is known."""
    is_amt, simple = question.groups.get("source") == "amt", question.groups.get("simple")
    script = ["complex (amt)"] if is_amt else ["simple (not amt)"] * (simple == "yes")
    return script + {"yes": ["simple by issimple"], "no": ["complex by issimple"]}.get(
        simple or "", []
    )


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    parts: dict[str, list[Answered]] = {}
    for one in answered:
        for name in _parts(one.question):
            parts.setdefault(name, []).append(one)
    found = {"RMSE": _rmse(answered)}
    for name, inside in sorted(parts.items()):
        found[name] = Figure(100 * mean([one.score for one in inside]), len(inside))
        found[f"RMSE, {name}"] = _rmse(inside)
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
