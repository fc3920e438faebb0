"""CLEVR: equal texts, by the last function of a question's program.

There is no official script; the groups are those of the papers. The generator of questions itself
writes "type" in place of "function", and answers that are numbers or truth values.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.metric import Annotation, Layout, Metric, equal_to_one


class _Step(TypedDict):
    function: NotRequired[str]
    type: NotRequired[str]


class _Entry(TypedDict):
    question_index: int
    image_filename: str
    question: str
    answer: str | int | bool
    program: NotRequired[list[_Step]]


COMPARE = {f"equal_{kind}": "compare attribute" for kind in ("shape", "color", "size", "material")}
COMPARE |= dict.fromkeys(("equal_integer", "less_than", "greater_than"), "compare numbers")


def answer_of(value: str | int | bool) -> str:
    """Return an answer as the released files write it."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    steps = entry.get("program", [])
    last = steps[-1].get("function") or steps[-1].get("type", "") if steps else ""
    return Annotation(entry["question_index"], (answer_of(entry["answer"]),), last)


def _groups(question: Annotation) -> dict[str, str]:
    """Return what the last function does: exist, count, query, or compare."""
    last = question.question_type
    return {"program": "query" if last.startswith("query") else COMPARE.get(last, last)}


LAYOUT = Layout(
    metric="clevr",
    form=_Entry,
    annotation=_annotation,
    place="questions",
    id_key="question_index",
)
METRICS = (
    Metric(
        name="clevr",
        rule="CLEVR accuracy: equal texts",
        layout=LAYOUT,
        score=equal_to_one(),
        groups=_groups,
    ),
)
