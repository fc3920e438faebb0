"""TallyQA: equal numbers, and the root of the mean squared error.

Source: manoja328/tallyqacode at c266303, eval_extra.py. Its complex questions are those of "amt",
and its simple ones all others that `issimple` says are; some are in neither. Papers split by
`issimple` alone, so there are both.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.accuracy import Figure, group_title, mean
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric, equal_to_one
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.system.texts import to_json

_NUMBER = re.compile("0|-?[1-9][0-9]{0,8}")
"""A number that its text is told from: "07" is wrong where "7" is right."""


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
    if not _NUMBER.fullmatch(answer):
        raise MetricError(
            f"question {one.question.question_id}: the answer {answer!r:.40} is no whole number "
            f"of at most nine digits, and the root of the mean squared error needs one. Answer "
            f"with digits."
        )
    return int(answer)


def _write(layout: Layout, answered: Sequence[Answered]) -> str:
    """Return results with numbers in place of texts, because the script subtracts them."""
    numbers = {one.answer: int(one.answer) for one in answered if _NUMBER.fullmatch(one.answer)}
    entries = [
        {"question_id": one.question.question_id, "answer": numbers.get(one.answer, one.answer)}
        for one in answered
    ]
    return to_json(entries, ensure_ascii=False)


LAYOUT = Layout(metric="tallyqa", form=_Entry, annotation=_annotation, write=_write)
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
