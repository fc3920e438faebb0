"""The cards of a report as plain values for JSON: questions, answers, and maps in few bytes.

A map is stored in bytes, scaled to the largest weight of each word and head, which is stored beside
it. The page decodes it when its card is shown.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.report.attention import Attended, Seen
from frozen_vqa.pipeline.report.deletion import Deletion
from frozen_vqa.pipeline.report.pictures import Pictures
from frozen_vqa.pipeline.report.words import Words
from frozen_vqa.pipeline.system.texts import printable

MOST_MAP_BYTES = 9_000_000
"""Of all maps of a page, as text."""

MOST_WORDS = 64
"""A longer question has no map."""


@dataclass
class _Texts:
    """Gives each distinct text a number."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        return self.numbers.setdefault(printable(text), len(self.numbers))

    def all(self) -> list[str]:
        return list(self.numbers)


def describe_cards(
    cache: FeatureCache,
    evaluation: Evaluation,
    others: Sequence[Evaluation],
    seen: Seen,
    answers: Sequence[str],
    rows: Sequence[int],
    pictures: Pictures,
) -> tuple[dict[str, Any], list[str]]:
    """Return the cards of the questions in `rows` as columns, and the pictures that they name."""
    table = evaluation.table
    names = table.ids_of_pictures(cache.image_ids())
    texts, given, types, kinds, truths = _Texts(), _Texts(), _Texts(), _Texts(), _Texts()
    uris = {row: i for i, row in enumerate(pictures.uris)}
    cards: dict[str, list[Any]] = {
        name: [] for name in ("id", "image", "picture", "text", "true", "type", "kind", "top", "p")
    }
    every = (evaluation, *others)
    cards |= {"said": [[] for _ in every], "scores": [[] for _ in every]}
    for row in rows:
        image = int(table.image_rows[row])
        cards["id"].append(printable(str(table.question_ids[row])))
        cards["image"].append(printable(names[row][0]))
        cards["picture"].append(uris.get(image, -1))
        cards["text"].append(texts.number(cache.questions.texts[int(table.question_rows[row])]))
        cards["true"].append(truths.number(_summarise(table.answers[row])))
        cards["type"].append(types.number(table.answer_types[row]))
        cards["kind"].append(kinds.number(table.question_types[row]))
        cards["top"].append([given.number(answers[i]) for i in seen.classes[row]])
        cards["p"].append([round(float(p), 4) for p in seen.probabilities[row]])
        for said, scores, one in zip(cards["said"], cards["scores"], every, strict=True):
            said.append(given.number(one.answers[row]))
            scores.append(None if one.scores is None else round(float(one.scores[row]), 3))
    found = {
        "runs": [printable(one.name) for one in every],
        "texts": texts.all(),
        "answers": given.all(),
        "truths": truths.all(),
        "types": types.all(),
        "kinds": kinds.all(),
        "cards": cards,
    }
    return found, list(pictures.uris.values())


def _summarise(answers: Iterable[str]) -> str:
    """Return the given answers of a question in a line: 'red ×7, dark red ×3'."""
    counts = Counter(answers).most_common()
    return ", ".join(text if n == 1 else f"{text} \u00d7{n}" for text, n in counts)


def describe_maps(
    rows: Sequence[int],
    attended: Mapping[int, Attended],
    words: Mapping[int, Words],
    tested: Deletion,
    questions: np.ndarray,
) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Return the maps of the questions in `rows`, as many as fit a page, and their places by row.

    `tested` has these questions in the same order; `questions` has the distinct question of each
    row of the split.
    """
    found: list[dict[str, Any]] = []
    places: dict[int, int] = {}
    total = 0
    for i, row in enumerate(rows):
        one, own = attended[row], words[int(questions[row])]
        if len(own.texts) > MOST_WORDS:
            continue
        entry: dict[str, Any] = {
            "words": [printable(text) for text in own.texts],
            "spaced": [int(space) for space in own.spaced],
            "pieces": list(own.pieces),
            "looks": pack(own.mean(one.to_patches)),
            "hears": None if one.to_words is None else pack(own.sum(one.to_words)),
            "whole": round(float(tested.whole[i]), 4),
            "random": _rounded(tested.random[i]),
            "most": _rounded(tested.most[i]),
            "least": _rounded(tested.least[i]),
        }
        total += sum(len(entry[name]["bytes"]) for name in ("looks", "hears") if entry[name])
        if total > MOST_MAP_BYTES:
            break
        places[row] = len(found)
        found.append(entry)
    return found, places


def pack(weights: np.ndarray) -> dict[str, Any]:
    """Return (words, heads, patches) weights in bytes, with the largest of each word and head."""
    largest = weights.max(2, keepdims=True)
    levels = np.rint(255 * weights / np.maximum(largest, np.finfo(np.float32).tiny))
    return {
        "bytes": base64.b64encode(levels.astype(np.uint8).tobytes()).decode(),
        "largest": [float(f"{value:.4g}") for value in largest.ravel().tolist()],
    }


def _rounded(values: np.ndarray) -> list[Any]:
    rounded: list[Any] = values.round(4).tolist()
    return rounded
