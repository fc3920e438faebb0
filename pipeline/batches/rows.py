"""What each row of a batch shows and asks: a question of a split, or one choice of a question.

A head reads a question with one of its choices as it reads any question, and has one output: how
well this choice answers. So each choice takes a slot of its own, and the logits of a question are
those of its choices, side by side.
"""

from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache import SplitTable
from frozen_vqa.pipeline.batches.plan import Grid


def same_pictures(split: SplitTable) -> np.ndarray:
    """Return (questions,) numbers, equal for questions about the same pictures in the same order.

    With one picture a question they are its row.
    """
    if not split.more_images:
        return split.image_rows
    return np.unique(split.picture_rows, axis=0, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class Rows:
    """The rows that batches of a split are made of.

    Attributes:
        picture_rows: (rows, pictures) rows of the pictures in the cache.
        text_rows: (rows,) row of the text in the cache.
        starts: (questions + 1,) where the rows of each question begin and end; None where each
            question is a row.
    """

    picture_rows: np.ndarray
    text_rows: np.ndarray
    starts: np.ndarray | None = None

    @classmethod
    def of(cls, split: SplitTable, *, choosing: bool) -> "Rows":
        """Return the rows of a split: its questions, or if `choosing` their choices."""
        if not choosing:
            return cls(split.picture_rows, split.question_rows)
        counts = [len(rows) for rows in split.choice_rows]
        texts = [row for rows in split.choice_rows for row in rows]
        return cls(
            np.repeat(split.picture_rows, counts, axis=0),
            np.array(texts, dtype=np.int64),
            np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        )

    @property
    def most(self) -> int:
        """The most rows of a question."""
        return 1 if self.starts is None else int(np.diff(self.starts).max(initial=1))

    def spread(self, grid: Grid) -> Grid:
        """Return a batch of questions with the rows of each in its place."""
        starts = self.starts
        if starts is None:
            return grid
        return [
            np.concatenate([np.arange(starts[one], starts[one + 1]) for one in entry])
            for entry in grid
        ]

    def place(self, rows: np.ndarray, questions: np.ndarray) -> np.ndarray:
        """Return (2, rows): for each row its question's place among `questions`, and its choice."""
        assert self.starts is not None
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(questions)
        places = order[np.searchsorted(questions, owners, sorter=order)]
        return np.stack([places, rows - self.starts[owners]])
