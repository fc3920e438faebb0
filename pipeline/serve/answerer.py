"""What the page shows: a head's answers to one question about one picture, and where it looked.

Encoders and head are in memory once and answer one question at a time. The last answers are kept,
so that another word of the same question costs only a drawing.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from frozen_vqa.pipeline.ask.asked import require_question
from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.ask.look import WordMaps, look
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.pictures.attention_strip import heat

TOP = 5
"""Answers that are shown."""

KEPT = 16
"""Answers that are kept, each with its maps and a small picture."""

SIDE = 448
"""Pixels of the map."""


@dataclass(frozen=True)
class Answered:
    """The answers to a question.

    Attributes:
        ranked: The most likely answers with their probabilities.
        picture: What the encoder sees of the picture.
        seen: Where each word looked; None if the head has no attention to the picture.
    """

    ranked: list[tuple[str, float]]
    picture: Image.Image
    seen: WordMaps | None


@dataclass(frozen=True)
class HeatMap:
    """Where a word looks.

    Attributes:
        picture: The map over the picture.
        row, column: The patch with the largest weight, counted from 1.
        share: Its weight, of 1.
        grid: Number of rows and columns of patches.
    """

    picture: Image.Image
    row: int
    column: int
    share: float
    grid: tuple[int, int]


class Answerer:
    """Answers one question at a time, from any thread."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Path, str], Answered] = OrderedDict()

    def answer(self, picture: Path, question: str) -> Answered:
        """Answer a question about the picture in a file, whose content never changes.

        Raises `RunError` or `ImageError` if that cannot be.
        """
        require_question(question)
        with self._lock:
            if found := self._kept.get((picture, question)):
                self._kept.move_to_end((picture, question))
                return found
            rgb = load_rgb(picture, self.asker.reading)
            logits, seen = look(self.asker, rgb, [question])
            small = self.asker.shown(rgb)
            found = Answered(self.asker.rank(logits[0], TOP), small, seen[0] if seen else None)
            self._kept[picture, question] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found


def draw(answered: Answered, word: int, head: int) -> HeatMap:
    """Draw where a word looked in a head.

    All words have one scale, so that their maps can be compared.

    Args:
        answered: An answer with `seen`.
        word: Its number from 1; 0 is the whole question.
        head: Its number from 1; 0 is the mean of the heads.
    """
    seen = answered.seen
    assert seen is not None
    maps = np.concatenate([seen.question[None], seen.maps[1:]])  # the start is no word
    maps = maps[:, head - 1] if head else maps.mean(1)
    chosen = maps[word]
    row, column = np.unravel_index(chosen.argmax(), chosen.shape)
    large = answered.picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return HeatMap(
        heat(large, chosen / maps.max()),
        int(row) + 1,
        int(column) + 1,
        float(chosen[row, column]),
        (chosen.shape[0], chosen.shape[1]),
    )
