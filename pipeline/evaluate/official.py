"""A head's answers as a metric scores them, and as the official results file has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frozen_vqa.cache import SplitTable
from frozen_vqa.cache.format.records.files import Id
from frozen_vqa.pipeline.answers.questions import annotations_of
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric
from frozen_vqa.pipeline.metrics.named.vizwiz import ANSWERABLE


@dataclass(frozen=True)
class Results:
    """What is written of all questions of a split: a file of answers, and logits if asked for."""

    text: str
    question_ids: Sequence[Id]
    logits: np.ndarray | None = None


def find_unanswerable(vocabulary: Vocabulary, metric: Metric) -> int | None:
    """Return the class that says that a question has no answer, if the metric asks for it."""
    if not metric.unanswerable:
        return None
    wanted = metric.normalise(metric.unanswerable)
    forms = [metric.normalise(answer) for answer in vocabulary.answers]
    return forms.index(wanted) if wanted in forms else None


def score_answers(
    table: SplitTable,
    answers: Sequence[str],
    metric: Metric,
    doubts: np.ndarray | None = None,
) -> list[Answered]:
    """Return each question with its answer and score; 0 where it has no given answers.

    `doubts` holds the logit of each question that it has no answer: (questions,).
    """
    entries: list[Mapping[str, Any]] = [{}] * len(table)
    if doubts is not None:
        # 1 - sigmoid(x), because training treats each answer as a yes or no of its own.
        sure = 0.5 - 0.5 * np.tanh(doubts.astype(np.float64) / 2)
        entries = [{ANSWERABLE: value} for value in sure.tolist()]
    found = []
    for one, answer, entry in zip(annotations_of(table), answers, entries, strict=True):
        given = metric.given(one)
        found.append(Answered(one, answer, metric.score(answer, given) if given else 0.0, entry))
    return found


def official_text(layout: Layout, answered: Sequence[Answered], left_out: Sequence[Id]) -> str:
    """Return the results of all questions, because official tools take no others.

    Those that are left out have an empty answer.
    """
    blank = dict.fromkeys(answered[0].entry, 0.0)
    every = [*answered, *(Answered(Annotation(i, ()), "", 0.0, blank) for i in left_out)]
    if not layout.id_key and left_out:  # the place of an answer says what it answers
        every.sort(key=lambda one: int(one.question.question_id))
    return layout.write(layout, every)
