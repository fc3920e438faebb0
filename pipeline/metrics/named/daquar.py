"""DAQUAR: equal sets of answers, and WUPS, which counts how near WordNet's nouns are.

Source: mateuszmalinowski/visual_turing_test-tutorial at 69aace8, kraino/utils/compute_wups.py.
WordNet is read through nltk (the extra `daquar`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypedDict

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.accuracy import Figure, mean
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric

THRESHOLDS = (0.9, 0.0)
REMEDY = (
    "WUPS needs WordNet through nltk: pip install 'frozen-vqa[daquar]', then python -m "
    "nltk.downloader wordnet; --metric plain scores without it"
)


class _Entry(TypedDict):
    answer: str


def _entries(lines: Sequence[str]) -> Sequence[Mapping[str, str]]:
    """Return the answers of triples of lines: question, answers, picture. Or a line each."""
    triples = len(lines) % 3 == 0 and all(line.strip().startswith("image") for line in lines[2::3])
    return [{"answer": line} for line in (lines[1::3] if triples else lines)]


def _items(answer: str) -> list[str]:
    return [item.strip() for item in answer.split(",")]


def fuzzy(answer: str, given: str, near: Callable[[str, str], float]) -> float:
    """Return min(Πₐ maxₜ near(a, t), Πₜ maxₐ near(a, t)) over two comma lists of items."""
    ours, theirs = _items(answer), _items(given)
    left = math.prod(max(near(a, t) for t in theirs) for a in ours)
    return min(left, math.prod(max(near(t, a) for a in ours) for t in theirs))


def equal(one: str, other: str) -> float:
    """Return 1 for equal words, else 0."""
    return float(one == other)


def near_from(threshold: float) -> Callable[[str, str], float]:
    """Return the similarity of two words, which counts a tenth below the threshold."""

    def near(one: str, other: str) -> float:
        value = 1.0 if one == other else wu_palmer(*sorted((one, other)))
        return value if value >= threshold else 0.1 * value

    return near


@lru_cache(maxsize=1 << 18)
def wu_palmer(one: str, other: str) -> float:
    """Return the largest Wu-Palmer similarity of two words over all their noun senses, else 0."""
    senses = _noun_senses()
    pairs = ((x, y) for x in senses(one) for y in senses(other))
    return max((x.wup_similarity(y) or 0.0 for x, y in pairs), default=0.0)


def _noun_senses() -> Callable[[str], Sequence[Any]]:
    try:
        from nltk.corpus import wordnet

        wordnet.synsets("noun")  # nltk opens the files at the first use
    except (ImportError, LookupError, OSError) as error:
        raise MetricError(f"{REMEDY} ({type(error).__name__})") from None
    return lambda word: wordnet.synsets(word, pos="n")


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    found = {"accuracy, mean of classes": _of_classes(answered, [one.score for one in answered])}
    for threshold in THRESHOLDS:
        near = near_from(threshold)
        scores = [fuzzy(one.answer, ", ".join(one.question.answers), near) for one in answered]
        found[f"WUPS@{threshold}"] = Figure(100 * mean(scores), len(scores))
        found[f"WUPS@{threshold}, mean of classes"] = _of_classes(answered, scores)
    return found


def _of_classes(answered: Sequence[Answered], scores: Sequence[float]) -> Figure:
    """Return the mean over all distinct given answers of the mean score on each."""
    classes: dict[str, list[float]] = {}
    for one, score in zip(answered, scores, strict=True):
        classes.setdefault(", ".join(one.question.answers), []).append(score)
    return Figure(100 * mean([mean(inside) for inside in classes.values()]), len(classes))


def _write(layout: Layout, answered: Sequence[Answered]) -> str:
    return "".join(f"{one.answer}\n" for one in answered)


LAYOUT = Layout(
    metric="daquar",
    form=_Entry,
    annotation=lambda entry: Annotation(-1, tuple(_items(entry["answer"]))),
    lines=_entries,
    line=str,
    id_key="",
    results="results.txt",
    write=_write,
)
METRICS = (
    Metric(
        name="daquar",
        rule="DAQUAR accuracy: equal sets of answers",
        layout=LAYOUT,
        given=lambda question: (", ".join(question.answers),) if question.answers else (),
        score=lambda answer, given: max(fuzzy(answer, one, equal) for one in given),
        normalise=lambda answer: ", ".join(sorted(set(_items(answer)))),
        figures=_figures,
    ),
)
