"""NLVR2: equal labels in any case, and the share of sentences that are right on all their pairs.

Source: lil-lab/nlvr at 1892484, nlvr2/eval/metrics.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from frozen_vqa.pipeline.metrics.accuracy import Figure
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric, equal_to_one


class _Entry(TypedDict):
    identifier: str
    sentence: str
    label: str


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    return Annotation(entry["identifier"], (entry["label"],))


def _line(text: str) -> Mapping[str, str]:
    identifier, *rest = text.split(",")
    return {"identifier": identifier, "label": rest[0]} if rest else {"identifier": identifier}


def _write(layout: Layout, answered: Sequence[Answered]) -> str:
    return "".join(f"{one.question.question_id},{one.answer}\n" for one in answered)


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    right: dict[tuple[str, ...], bool] = {}
    for one in answered:
        parts = str(one.question.question_id).split("-")  # split, set, pair, sentence
        sentence = (*parts[:2], *parts[3:])
        right[sentence] = right.get(sentence, True) and one.score == 1
    return {"consistency": Figure(100 * sum(right.values()) / len(right), len(right))}


LAYOUT = Layout(
    metric="nlvr2",
    form=_Entry,
    annotation=_annotation,
    id_key="identifier",
    answer_key="label",
    line=_line,
    unknown=True,
    repeated=True,
    results="results.csv",
    write=_write,
)
METRICS = (
    Metric(
        name="nlvr2",
        rule="NLVR2 accuracy: equal labels",
        layout=LAYOUT,
        score=equal_to_one(str.lower),
        normalise=str.lower,
        figures=_figures,
    ),
)
