"""VQAv2, OK-VQA and all that is written in their form: the rules of the official tool.

OK-VQA's tool is the same, and compares with the stemmed `answer`, not with `raw_answer`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.metric import (
    Annotation,
    Layout,
    Metric,
    chance,
    equal_to_one,
    right_choice,
)
from frozen_vqa.pipeline.metrics.vqa_accuracy import (
    Rules,
    leave_one_out,
    normalise,
    percent,
    question_score,
)
from frozen_vqa.pipeline.sources.example import Id


class _Answer(TypedDict):
    answer: str


class _Entry(TypedDict):
    question_id: Id
    answers: list[_Answer]
    question_type: NotRequired[str]
    answer_type: NotRequired[str]


def annotation(entry: Mapping[str, Any]) -> Annotation:
    """Return the annotation of an entry that `official_files` has checked."""
    return Annotation(
        entry["question_id"],
        tuple(answer["answer"] for answer in entry["answers"]),
        entry.get("question_type", ""),
        entry.get("answer_type", ""),
    )


LAYOUT = Layout(metric="", form=_Entry, annotation=annotation, place="annotations")


def _one(matches: int, given: int) -> float:
    return 1.0


def _metric(name: Rules, rule: str, *, soft_is_score: bool) -> Metric:
    return Metric(
        name=name,
        rule=rule,
        layout=LAYOUT,
        score=partial(question_score, rules=name),
        normalise=normalise,
        soft=_one if name == "plain" else leave_one_out,
        soft_is_score=soft_is_score,
        percent=partial(percent, rules=name),
    )


METRICS = (
    _metric("2021", "official VQA accuracy, rules of 2021", soft_is_score=True),
    _metric("2017", "official VQA accuracy, rules of 2017", soft_is_score=False),
    _metric("plain", "plain accuracy: equal after the official normalisation", soft_is_score=True),
    Metric(  # of data of one's own, which has no official one
        name="choice",
        rule="multiple choice: the right choice",
        layout=LAYOUT,
        score=equal_to_one(),
        given=right_choice,
        figures=chance,
    ),
)
