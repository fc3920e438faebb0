"""What a contender of the comparison is, and how rows become batches in the usual ways."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

GRID, VISION_DIM = (16, 16), 768
ROW_SHAPE = (GRID[0] * GRID[1], VISION_DIM)
BATCH = 64

Read = Callable[[np.ndarray], Iterator[Any]]
"""Yields batches of the rows that it is given: arrays or tensors (BATCH, *ROW_SHAPE)."""


@dataclass(frozen=True)
class Line:
    """One way to read batches of random rows.

    Attributes:
        name: What is read.
        setting: How.
        file: Name in the folder, of a file or a folder.
        open: Makes it ready to be read, from the path of its file.
        package: That it needs.
        quick: Whether it is measured with --quick.
        own_order: Whether it gives each row once in an order of its own, whatever it is asked for.
    """

    name: str
    setting: str
    file: str
    open: Callable[[Path], Read]
    package: str = "numpy"
    quick: bool = False
    own_order: bool = False

    @property
    def key(self) -> str:
        """Name and setting, which no two lines share."""
        return f"{self.name}: {self.setting}"


def batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Cut rows into whole batches."""
    for first in range(0, len(rows) - BATCH + 1, BATCH):
        yield rows[first : first + BATCH]


def whole(get: Callable[[np.ndarray], Any]) -> Read:
    """Read a batch with one call."""

    def read(rows: np.ndarray) -> Iterator[Any]:
        for batch in batches(rows):
            yield get(batch)

    return read


class _Samples:
    """A map-style data set that opens its file in the process that reads it."""

    def __init__(self, open: Callable[[], Callable[[int], Any]]) -> None:
        self._open = open
        self._get: Callable[[int], Any] | None = None

    def __getitem__(self, row: int) -> Any:
        if self._get is None:
            self._get = self._open()
        return self._get(row)


class _Order:
    """A sampler whose order can be changed between epochs."""

    def __init__(self) -> None:
        self.rows: Sequence[int] = []

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def loader(dataset: Any, *, workers: int = 0, collate: Callable | None = None) -> Read:
    """Read through a torch DataLoader that stays; samples are collated by default as it does."""
    from torch.utils.data import DataLoader

    order = _Order()
    made = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
    )

    def read(rows: np.ndarray) -> Iterator[Any]:
        order.rows = rows.tolist()
        for batch in made:
            yield batch["x"] if isinstance(batch, Mapping) else batch

    return read


def samples(
    open: Callable[[Path], Callable[[int], Any]], workers: int = 0
) -> Callable[[Path], Read]:
    """Return how to read a file sample by sample through a DataLoader."""
    return lambda path: loader(_Samples(partial(open, path)), workers=workers)
