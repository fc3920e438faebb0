"""Visual7W, telling: the answer equals the right choice, in lower case and with its full stop.

Source: yukezhu/visual7w-toolkit at 2ba129b, evaluate.py. It divides by the number of predictions,
so that leaving out questions helps; here all questions of a split need one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.accuracy import Figure, mean
from frozen_vqa.pipeline.metrics.metric import (
    Annotation,
    Answered,
    Layout,
    Metric,
    chance,
    equal_to_one,
    right_choice,
)
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.system.texts import to_json


class _Entry(TypedDict):
    qa_id: Id
    question: str
    answer: str
    multiple_choices: list[str]
    type: NotRequired[str]
    split: NotRequired[str]  # of its picture


def _of_picture(picture: Any) -> Sequence[Any]:
    split = {"split": picture["split"]} if "split" in picture else {}
    return [{**pair, **split} for pair in picture["qa_pairs"]]


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    return Annotation(
        entry["qa_id"],
        (entry["answer"],),
        entry.get("type", ""),
        choices=(entry["answer"], *entry["multiple_choices"]),
        right=0,
        split=entry.get("split", ""),
    )


def _candidates(entry: Mapping[str, Any]) -> list[str]:
    return [candidate["answer"] for candidate in entry.get("candidates", ())]


def _read(layout: Layout, entry: Mapping[str, Any], _: Annotation) -> object:
    candidates = _candidates(entry)
    return candidates[0] if candidates else entry.get("answer")


def _write(layout: Layout, answered: Sequence[Answered]) -> str:
    entries = [
        {"qa_id": one.question.question_id, "candidates": [{"answer": one.answer}]}
        for one in answered
    ]
    return to_json(entries, ensure_ascii=False)


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    found, several = chance(answered), [_candidates(one.entry) for one in answered]
    for most in range(2, max(map(len, several), default=0) + 1):
        scores = [
            max(
                (METRICS[0].score(text, right_choice(one.question)) for text in texts[:most]),
                default=0.0,
            )
            for one, texts in zip(answered, several, strict=True)
        ]
        found[f"any of the first {most} candidates"] = Figure(100 * mean(scores), len(scores))
    return found


LAYOUT = Layout(
    metric="visual7w",
    form=_Entry,
    annotation=_annotation,
    place="images",
    parts=_of_picture,
    id_key="qa_id",
    read=_read,
    write=_write,
)
METRICS = (
    Metric(
        name="visual7w",
        rule="Visual7W accuracy: equal to the right choice in lower case",
        layout=LAYOUT,
        score=equal_to_one(str.lower),
        normalise=str.lower,
        given=right_choice,
        figures=_figures,
    ),
)
