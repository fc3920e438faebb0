"""Soft targets, and the score of every class on every question."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache import SplitTable
from frozen_vqa.pipeline.answers.questions import given_answers
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.metrics.metric import Metric


@dataclass(frozen=True)
class ClassScores:
    """Which classes are right for each question, as a sparse matrix in compressed rows.

    Attributes:
        offsets: (questions + 1,) where the entries of each question begin and end.
        classes: (entries,) class.
        targets: (entries,) soft target in [0, 1] of the metric.
        scores: (entries,) what the metric gives for predicting the class's raw form. Under "2021"
            it differs from the target only where all annotators gave one text and the raw form is
            another text.
    """

    offsets: np.ndarray
    classes: np.ndarray
    targets: np.ndarray
    scores: np.ndarray

    def sparse(self, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return position in `questions`, class and float32 soft target: (entries,) each."""
        starts, ends = self.offsets[questions], self.offsets[questions + 1]
        counts = ends - starts
        rows = np.repeat(np.arange(len(questions)), counts)
        entries = _join_ranges(starts, counts)
        return rows, self.classes[entries], self.targets[entries]

    def score(self, predicted: np.ndarray) -> np.ndarray:
        """Return the score in [0, 1] of one predicted class per question."""
        owner = np.repeat(np.arange(len(predicted)), np.diff(self.offsets))
        hit = self.classes == predicted[owner]
        return np.bincount(owner[hit], self.scores[hit], minlength=len(predicted))

    def best(self) -> np.ndarray:
        """Return the best score that any class reaches, per question: the vocabulary's ceiling."""
        out = np.zeros(len(self.offsets) - 1)
        owner = np.repeat(np.arange(len(out)), np.diff(self.offsets))
        np.maximum.at(out, owner, self.scores)
        return out

    def usual(self, inside: np.ndarray | None = None) -> tuple[int, float]:
        """Return the one class that is best for all questions, and its mean score.

        Args:
            inside: (questions,) bool; the questions that count, by default all.
        """
        inside = np.ones(len(self.offsets) - 1, dtype=bool) if inside is None else inside
        entries = np.repeat(inside, np.diff(self.offsets))
        sums = np.bincount(self.classes[entries], self.scores[entries], minlength=1)
        return int(sums.argmax()), float(sums.max()) / int(inside.sum())


def class_scores(
    answers: Sequence[Sequence[str]], vocabulary: Vocabulary, *, metric: Metric
) -> ClassScores:
    """Score every class of the vocabulary that a question's answers name."""
    classes_of: dict[str, list[int]] = {}
    for index, answer in enumerate(vocabulary.answers):
        classes_of.setdefault(metric.normalise(answer), []).append(index)
    # Many questions have the same answers: score each distinct set once, then repeat its entries.
    kinds: dict[tuple[str, ...], int] = {}
    kind = np.array([kinds.setdefault(tuple(given), len(kinds)) for given in answers], dtype=int)
    found = [_score_named(given, vocabulary, classes_of, metric) for given in kinds]
    counts = np.array([len(entries) for entries in found], dtype=int)
    starts, counts = (np.cumsum(counts) - counts)[kind], counts[kind]
    flat = np.array([entry for entries in found for entry in entries], dtype=np.float64)
    classes, targets, scores = flat.reshape(-1, 3)[_join_ranges(starts, counts)].T
    return ClassScores(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        classes=classes.astype(np.int64),
        targets=targets.astype(np.float32),
        scores=scores.copy(),
    )


def choice_scores(table: SplitTable, metric: Metric) -> ClassScores:
    """Score every choice of each question; its number is its class, and 1 the target if right."""
    given = given_answers(table, metric)
    found = [
        [
            (place, float(place == right), metric.score(choice, answers))
            for place, choice in enumerate(choices)
        ]
        for choices, right, answers in zip(table.choices, table.right_choices, given, strict=True)
    ]
    flat = np.array([entry for entries in found for entry in entries]).reshape(-1, 3)
    return ClassScores(
        offsets=np.concatenate(
            [[0], np.cumsum([len(entries) for entries in found], dtype=np.int64)]
        ),
        classes=flat[:, 0].astype(np.int64),
        targets=flat[:, 1].astype(np.float32),
        scores=flat[:, 2].copy(),
    )


def _join_ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return range(start, start + count) for each pair, one after the other."""
    return np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def _score_named(
    given: tuple[str, ...],
    vocabulary: Vocabulary,
    classes_of: Mapping[str, Sequence[int]],
    metric: Metric,
) -> list[tuple[int, float, float]]:
    """Return (class, target, score) of each class that the given answers name."""
    counts = Counter(metric.normalise(answer) for answer in given)
    found = []
    for answer, count in counts.items():
        soft = metric.soft(count, len(given)) if metric.soft else None
        # The metric itself takes twice as long. The 2021 rules of VQAv2 give another score than
        # the target only where all annotators agree; its 2017 rules anywhere.
        known = soft if metric.soft_is_score and len(counts) > 1 else None
        for index in classes_of.get(answer, ()):
            score = metric.score(vocabulary.answers[index], given) if known is None else known
            found.append((index, score if soft is None else soft, score))
    return found
