"""The questions of a split as a metric sees them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from frozen_vqa.cache import CacheError, FeatureCache, SplitTable
from frozen_vqa.pipeline.metrics.metric import (
    Annotation,
    Metric,
    all_answers,
    every_question,
    no_groups,
)
from frozen_vqa.pipeline.sources.example import VqaExample


def annotations_of(table: SplitTable) -> list[Annotation]:
    """Return what the annotators say of each question of a split."""
    return [
        Annotation(
            question_id,
            tuple(table.answers[row]),
            table.question_types[row],
            table.answer_types[row],
            groups={name: column[row] for name, column in table.groups.items() if column[row]},
            choices=tuple(table.choices[row]) if len(table.choices) else (),
            right=int(table.right_choices[row]) if len(table.right_choices) else -1,
        )
        for row, question_id in enumerate(table.question_ids)
    ]


def annotation_of(example: VqaExample) -> Annotation:
    """Return what the annotators say of a question of a source."""
    right = -1 if example.right_choice is None else example.right_choice
    return Annotation(
        example.question_id,
        example.answers,
        example.question_type,
        example.answer_type,
        groups=example.groups,
        choices=example.choices,
        right=right,
    )


def given_answers(table: SplitTable, metric: Metric) -> list[Sequence[str]]:
    """Return what the answer to each question of a split is compared with."""
    if metric.given is all_answers:
        return list(table.answers)
    return [metric.given(question) for question in annotations_of(table)]


def counted(table: SplitTable, metric: Metric) -> np.ndarray:
    """Return which questions are in the means of a metric: (questions,) bool."""
    if metric.counts is every_question:
        return np.ones(len(table), dtype=bool)
    return np.array([metric.counts(question) for question in annotations_of(table)], dtype=bool)


def with_groups(table: SplitTable, metric: Metric) -> SplitTable:
    """Return a split whose groups are those of the data and of a metric."""
    if metric.groups is no_groups:
        return table
    found = [metric.groups(question) for question in annotations_of(table)]
    names = dict.fromkeys(name for some in found for name in some)
    more = {name: [some.get(name, "") for some in found] for name in names}
    return replace(table, groups={**table.groups, **more})


def metric_of(cache: FeatureCache, split: str, table: SplitTable) -> str | None:
    """Return the metric that a split names; for data of one's own "choice", or None if open."""
    record = cache.manifest.splits.get(split)
    name = record.metric if record else None
    return name or ("choice" if table.choices else None)


def require_choices(cache: FeatureCache, split: str, table: SplitTable) -> None:
    """Raise `CacheError` unless each question of a split has choices, which a head scores."""
    lacking = len(table) - sum(1 for choices in table.choices if choices)
    if lacking:
        raise CacheError(
            f"{cache.name}: {lacking:,} of {len(table):,} questions of split {split!r} have "
            f"no choices, and the head scores those of each; name a split in which all have some"
        )
