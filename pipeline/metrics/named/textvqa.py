"""TextVQA: the accuracy of VQA after the "EvalAI" processor, which rewrites both sides always.

Source: facebookresearch/mmf at b0ffc7f, mmf/utils/m4c_evaluators.py.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypedDict

from frozen_vqa.pipeline.metrics.metric import Annotation, Layout, Metric
from frozen_vqa.pipeline.metrics.vqa_accuracy import leave_one_out_mean, normalise_python3
from frozen_vqa.pipeline.sources.example import Id


class _Entry(TypedDict):
    question_id: Id
    question: str
    answers: list[str]


@lru_cache(maxsize=1 << 18)
def normalise(answer: str) -> str:
    """Return an answer as the EvalAI processor rewrites it before comparing."""
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalise_python3(text.strip())


def _score(answer: str, given: Sequence[str]) -> float:
    return leave_one_out_mean(normalise(answer), [normalise(one) for one in given])


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    return Annotation(entry["question_id"], tuple(entry["answers"]))


LAYOUT = Layout(metric="textvqa", form=_Entry, annotation=_annotation, place="data")
METRICS = (
    Metric(
        name="textvqa",
        rule="TextVQA accuracy: both sides through the EvalAI processor",
        layout=LAYOUT,
        score=_score,
        normalise=normalise,
    ),
)
