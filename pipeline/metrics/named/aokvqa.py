"""A-OKVQA: multiple choice by equal texts, and direct answers by min(1, n/3) of ten.

Source: allenai/aokvqa at 83786de, evaluation/eval_predictions.py. Nothing is normalised and nobody
left out. A question without a prediction counts 0. Direct answers leave out the difficult ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.metric import (
    Annotation,
    Answered,
    Layout,
    Metric,
    chance,
    equal_to_one,
    require_choice,
    right_choice,
)
from frozen_vqa.pipeline.system.texts import to_json


class _Entry(TypedDict):
    question_id: str
    question: str
    choices: list[str]
    correct_choice_idx: NotRequired[int]
    direct_answers: NotRequired[list[str]]
    difficult_direct_answer: bool
    split: NotRequired[str]


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    place, choices = entry.get("correct_choice_idx", -1), tuple(entry["choices"])
    return Annotation(
        entry["question_id"],
        tuple(entry.get("direct_answers", ())),
        groups={"difficult": "yes" if entry["difficult_direct_answer"] else "no"},
        choices=choices,
        right=-1 if place == -1 else require_choice(place, choices),
        split=entry.get("split", ""),
    )


def _share(answer: str, given: Sequence[str]) -> float:
    return _soft(given.count(answer), len(given))


def _soft(matches: int, given: int) -> float:
    return min(1.0, matches / 3)


def _write(layout: Layout, answered: Sequence[Answered]) -> str:
    key = layout.answer_key
    answers = {one.question.question_id: {key: one.answer} for one in answered}
    return to_json(answers, ensure_ascii=False)


LAYOUT = Layout(
    metric="aokvqa",
    form=_Entry,
    annotation=_annotation,
    answer_key="multiple_choice",
    missing=True,
    unknown=True,
    write=_write,
)
DIRECT = replace(LAYOUT, metric="aokvqa-da", answer_key="direct_answer")
METRICS = (
    Metric(
        name="aokvqa",
        rule="A-OKVQA multiple choice: equal texts",
        layout=LAYOUT,
        score=equal_to_one(),
        given=right_choice,
        figures=chance,
    ),
    Metric(
        name="aokvqa-da",
        rule="A-OKVQA direct answers: min(1, n/3), without the difficult questions",
        layout=DIRECT,
        score=_share,
        soft=_soft,
        soft_is_score=True,
        counts=lambda question: question.groups.get("difficult") != "yes",
    ),
)
