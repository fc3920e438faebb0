"""The answer vocabulary, soft targets, and the score of every class on every question."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules, normalise, question_score


@dataclass(frozen=True)
class Vocabulary:
    """The answers that a head can give.

    Two texts that the official normalisation makes equal are one class. A class is written as its
    most frequent raw form, because where all annotators agree the official metric compares raw
    text.

    Attributes:
        answers: One raw form per class, the most frequent class first.
    """

    answers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def classes(self) -> dict[str, int]:
        """Class by normalised answer."""
        return {normalise(answer): i for i, answer in enumerate(self.answers)}

    def save(self, path: Path) -> None:
        """Write the answers as a JSON list, whole or not at all."""
        text = json.dumps(list(self.answers), ensure_ascii=False, indent=0)
        write_atomically(path, f"{text}\n".encode())


def load_vocabulary(path: Path) -> Vocabulary:
    """Read what `Vocabulary.save` wrote.

    Raises:
        RunError: if the file is missing or is no list of texts.
    """
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: not a readable answer vocabulary ({error})") from error
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise RunError(f"{path}: a JSON list of texts is needed")
    return Vocabulary(tuple(answers))


def build_vocabulary(
    answers: Iterable[Sequence[str]], *, min_count: int = 9, top: int | None = None
) -> Vocabulary:
    """Return the answers that occur often enough as a question's majority answer.

    Args:
        answers: Per question all given answers.
        min_count: How many questions must have an answer as their majority.
        top: Keep at most so many classes, the most frequent.

    Raises:
        ConfigError: if no answer is frequent enough.
    """
    counts: Counter[str] = Counter()
    forms: dict[str, Counter[str]] = {}
    # Each set of answers once, however many questions have it: it costs more than the counting.
    for given, questions in Counter(map(tuple, answers)).items():
        if not given:
            continue
        key = _majority(given)
        counts[key] += questions
        raw = forms.setdefault(key, Counter())
        for answer in given:
            if normalise(answer) == key:
                raw[answer] += questions
    ranked = sorted(counts, key=lambda key: (-counts[key], key))
    kept = [key for key in ranked if counts[key] >= min_count][:top]
    if not kept:
        most = f"the most frequent, {ranked[0]!r}, {counts[ranked[0]]} times" if ranked else "none"
        raise ConfigError(
            f"no answer is the majority of at least {min_count} training questions ({most}); "
            f"use --min-answer-count 1 for a small data set"
        )
    return Vocabulary(tuple(_usual(forms[key]) for key in kept))


def _usual(forms: Counter[str]) -> str:
    return min(forms, key=lambda form: (-forms[form], form))


def _majority(given: tuple[str, ...]) -> str:
    # Of equally frequent answers the first given one, as `most_common` orders them.
    return Counter(normalise(answer) for answer in given).most_common(1)[0][0]


def leave_one_out(matches: int, given: int) -> float:
    """Return the mean of min(1, n/3) over subsets that leave one of `given` answers out.

    n counts the `matches` that remain. With ten answers: 0, 0.3, 0.6, 0.9, then 1.

    Source: Antol et al., VQA: Visual Question Answering, ICCV 2015, section 3, and vqaEval.py.
    """
    kept, lost = min(1.0, matches / 3), min(1.0, (matches - 1) / 3)
    return ((given - matches) * kept + matches * lost) / given if matches else 0.0


@dataclass(frozen=True)
class ClassScores:
    """Which classes are right for each question, sparse (compressed rows).

    Attributes:
        offsets: (questions + 1,) where the entries of each question begin and end.
        classes: (entries,) class.
        targets: (entries,) soft target in [0, 1]: `leave_one_out`, or 1 under "plain".
        scores: (entries,) what the metric gives for predicting the class's raw form. It differs
            from the target only where all annotators gave one text and the raw form is another.
    """

    offsets: np.ndarray
    classes: np.ndarray
    targets: np.ndarray
    scores: np.ndarray

    def sparse(self, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the soft targets of some questions.

        Returns:
            (entries,) each: place in `questions`, class, soft target as float32.
        """
        starts, ends = self.offsets[questions], self.offsets[questions + 1]
        counts = ends - starts
        rows = np.repeat(np.arange(len(questions)), counts)
        entries = _ranges(starts, counts)
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


def class_scores(
    answers: Sequence[Sequence[str]], vocabulary: Vocabulary, *, rules: Rules
) -> ClassScores:
    """Score every class of the vocabulary that a question's answers name.

    Args:
        answers: Per question all given answers.
        vocabulary: The classes.
        rules: "2021" or "plain"; training knows no other.
    """
    # Each set of answers once; which of them a question has.
    kinds: dict[tuple[str, ...], int] = {}
    kind = np.array([kinds.setdefault(tuple(given), len(kinds)) for given in answers], dtype=int)
    found = [_entries(given, vocabulary, rules) for given in kinds]
    counts = np.array([len(entries) for entries in found], dtype=int)
    starts, counts = (np.cumsum(counts) - counts)[kind], counts[kind]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    flat = [entry for some in found for entry in some]
    columns = np.array(flat, dtype=np.float64).reshape(-1, 3)[_ranges(starts, counts)].T
    return ClassScores(
        offsets,
        columns[0].astype(np.int64),
        columns[1].astype(np.float32),
        columns[2].copy(),
    )


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the numbers from each start on, so many as it counts, one range after the other."""
    return np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def _entries(
    given: tuple[str, ...], vocabulary: Vocabulary, rules: Rules
) -> list[tuple[int, float, float]]:
    """(class, target, score) of each class that the given answers name."""
    counts = Counter(normalise(a) for a in given)
    found = []
    for answer, count in counts.items():
        index = vocabulary.classes.get(answer)
        if index is None:
            continue
        target = 1.0 if rules == "plain" else leave_one_out(count, len(given))
        # Only where all agree can it matter how the class is written.
        agreed = len(counts) == 1
        form = vocabulary.answers[index]
        score = question_score(form, given, rules=rules) if agreed else target
        found.append((index, target, score))
    return found
