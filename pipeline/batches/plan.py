"""Which questions make a batch, in an order that depends on seed and epoch alone.

A batch is a grid of pictures and the questions about each of them ("slots"). Grouped order puts all
questions of a picture beside it, so that they share its reading, its projection and its keys and
values. Plain order is the same grid with one slot.

The pictures may fall into shares, one for each machine of a training. A share is a run of rows, so
that a machine reads neighbouring shards alone, and every batch has an equal part of each share.
"""

from collections.abc import Sequence
from typing import overload

import numpy as np

MAX_SLOTS = 16
"""Questions of one picture in a batch; a picture with more comes several times."""

IMAGES = 4
"""A batch is padded to a multiple of this many pictures, so that few shapes occur in a training;
a batch of many pictures is cut at such a multiple."""

BUCKET = 16
"""Pictures of this many batches are sorted by their number of questions, to pad less."""

PART, PICTURE = 512, 128
"""What one more part of a batch costs, and a picture in it, in tokens of a question: steps of some
sizes were timed on a CPU (docs/log.md)."""

Grid = list[np.ndarray]
"""A batch before it is read: for each picture the rows of its questions in the split."""


class BatchPlan(Sequence[Grid]):
    """The batches of an epoch; a grid is made when it is asked for.

    Args:
        rows: (questions,) rows of the split; those of one entry of a grid are neighbours.
        starts: (entries,) where each entry begins in `rows`.
        lengths: (entries,) number of questions of each entry.
        batches: (batches, shares + 1) where the entries of each share begin in each batch, and one
            past its last entry.
    """

    def __init__(
        self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray, batches: np.ndarray
    ) -> None:
        self._rows, self._starts, self._lengths, self._batches = rows, starts, lengths, batches

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> Grid: ...
    @overload
    def __getitem__(self, index: slice) -> "BatchPlan": ...
    def __getitem__(self, index: int | slice) -> "Grid | BatchPlan":
        if isinstance(index, slice):
            return BatchPlan(self._rows, self._starts, self._lengths, self._batches[index])
        first, end = self._batches[index, [0, -1]]
        ends = self._starts[first:end] + self._lengths[first:end]
        return [self._rows[a:b] for a, b in zip(self._starts[first:end], ends, strict=True)]

    @property
    def sizes(self) -> np.ndarray:
        """Questions of each batch: (batches,)."""
        before = self._questions_before
        return before[self._batches[:, -1]] - before[self._batches[:, 0]]

    @property
    def questions(self) -> int:
        return int(self.sizes.sum())

    @property
    def most_images(self) -> int:
        return int((self._batches[:, -1] - self._batches[:, 0]).max(initial=0))

    @property
    def rows(self) -> np.ndarray:
        """Rows of all questions, in the order of the batches: (questions,)."""
        return np.concatenate([self._rows[:0], *(entry for grid in self for entry in grid)])

    @property
    def _questions_before(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self._lengths)])

    def part(self, rank: int, world: int) -> "BatchPlan":
        """Return one rank's part of every batch.

        A part is a run of neighbouring entries, which are about equally long, so it needs little
        padding. It has a fraction 1 / world of the batch's questions, give or take the longest
        entry, and none where the batch has fewer entries than ranks. If shares divide the ranks
        into groups, the ranks of a group divide their share; else a part may touch several.
        """
        first, end = self._cut(rank, world), self._cut(rank + 1, world)
        return BatchPlan(self._rows, self._starts, self._lengths, np.stack([first, end], axis=1))

    def _cut(self, rank: int, world: int) -> np.ndarray:
        """Return the entry of each batch at which the rank's part begins: (batches,)."""
        before = self._questions_before
        share, rest = divmod(rank * (self._batches.shape[1] - 1), world)
        if not rest:
            return self._batches[:, share]
        first, end = before[self._batches[:, share : share + 2].T]
        target = first + (end - first) * rest / world
        above = np.searchsorted(before, target)
        below = np.maximum(above - 1, self._batches[:, share])
        return np.where(target - before[below] <= before[above] - target, below, above)

    def fill_empty(self, whole: "BatchPlan") -> "BatchPlan":
        """Return this part with an entry in each batch that has none.

        It is the first entry of the part, which its machine reads anyway. If the part has none at
        all, it is the first one of the batch in `whole`.
        """
        batches = self._batches
        empty = batches[:, 0] == batches[:, 1]
        first = whole._batches[:, 0] if empty.all() else batches[~empty][0, 0]
        filled = np.where(empty, first, batches[:, 0]), np.where(empty, first + 1, batches[:, 1])
        return BatchPlan(self._rows, self._starts, self._lengths, np.stack(filled, axis=1))


def share_of(image_rows: np.ndarray, shares: int) -> np.ndarray:
    """Return the share of each question, (questions,), from 0 to `shares` - 1.

    A share is a run of pictures, with as many questions as the others as far as whole pictures
    allow.
    """
    if shares == 1 or not len(image_rows):
        return np.zeros(len(image_rows), dtype=np.int64)
    firsts = np.sort(image_rows)[len(image_rows) * np.arange(1, shares) // shares]
    return np.searchsorted(firsts, image_rows, side="right")


def plan_batches(
    image_rows: np.ndarray,
    *,
    batch_size: int,
    grouped: bool,
    shuffle: tuple[int, int] | None,
    shares: int = 1,
) -> BatchPlan:
    """Put the questions of a split into batches of at most `batch_size`, each exactly once.

    `image_rows`, (questions,), are the rows of their pictures, or the numbers of `same_pictures`.
    `shuffle` is seed and epoch, or None for the order of the split (by picture, if `grouped`).
    With one share, the order is a draw from all questions.
    """
    rng = np.random.default_rng(shuffle) if shuffle is not None else None
    rows = np.arange(len(image_rows))
    if rng is not None:
        rows = rng.permutation(rows)
    starts, lengths = np.arange(len(rows)), np.ones(len(rows), dtype=np.int64)
    if grouped:
        rows = rows[np.argsort(image_rows[rows], kind="stable")]
        starts, lengths = _cut_entries(image_rows[rows], min(MAX_SLOTS, batch_size))
    share = share_of(image_rows, shares)[rows[starts]]
    if rng is not None:
        order = rng.permutation(len(starts)) if grouped else np.arange(len(starts))
        pools = [order[share[order] == number] for number in range(shares)]
        size = max(1, batch_size * BUCKET // shares)
        order = _merge([pool[_sort_in_buckets(lengths[pool], size)] for pool in pools], lengths)
        starts, lengths, share = starts[order], lengths[order], share[order]
    batches = _cut_batches(lengths, batch_size, multiple=IMAGES if grouped else 1)
    order, batches = _divide(batches, share, shares)
    if rng is not None:
        batches = rng.permutation(batches)
    return BatchPlan(rows, starts[order], lengths[order], batches)


def _merge(pools: Sequence[np.ndarray], lengths: np.ndarray) -> np.ndarray:
    """Join pools of entries so that each stretch has of each pool in proportion to its questions.

    All pools keep their order, and end together.
    """
    before = [np.cumsum(lengths[pool]) - lengths[pool] / 2 for pool in pools]
    done = [middle / lengths[pool].sum() for middle, pool in zip(before, pools, strict=True)]
    return np.concatenate(pools)[np.argsort(np.concatenate(done), kind="stable")]


def _divide(batches: np.ndarray, share: np.ndarray, shares: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort the entries of each batch, (batches, 2), by their share.

    Return their order, (entries,), and where each share begins: (batches, shares + 1).
    """
    batch = np.repeat(np.arange(len(batches)), np.diff(batches)[:, 0])
    counts = np.bincount(batch * shares + share, minlength=len(batches) * shares)
    ends = batches[:, :1] + np.cumsum(counts.reshape(len(batches), shares), axis=1)
    return np.lexsort((share, batch)), np.concatenate([batches[:, :1], ends], axis=1)


def _cut_entries(images: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut runs of equal values into pieces of at most `slots`; return their starts and lengths."""
    new = np.ones(len(images), dtype=bool)
    new[1:] = images[1:] != images[:-1]
    run_starts = np.flatnonzero(new)
    within = np.arange(len(images)) - run_starts[np.cumsum(new) - 1]
    starts = np.flatnonzero(within % slots == 0)
    return starts, np.diff(starts, append=len(images))


def _sort_in_buckets(lengths: np.ndarray, questions: int) -> np.ndarray:
    """Order entries by their length within buckets of about this many questions.

    Every other bucket goes backwards. Otherwise a batch across the edge of two would put pictures
    with the most questions beside those with the fewest, and be mostly padding.
    """
    bucket = (np.cumsum(lengths) - 1) // questions
    return np.lexsort((np.where(bucket % 2, -lengths, lengths), bucket))


def _cut_batches(lengths: np.ndarray, batch_size: int, *, multiple: int) -> np.ndarray:
    """Fill batches one after the other: (batches, 2) first and one past the last entry.

    A batch of many entries has a multiple of `multiple`, except the last one: to leave a few
    questions to the next batch costs less than padding.
    """
    before = np.concatenate([[0], np.cumsum(lengths)])
    edges = [0]
    while edges[-1] < len(lengths):
        full = int(np.searchsorted(before, before[edges[-1]] + batch_size, side="right")) - 1
        entries = full - edges[-1]
        if full < len(lengths) and entries >= 4 * multiple:
            full -= entries % multiple
        edges.append(full)
    return np.stack([edges[:-1], edges[1:]], axis=1).reshape(-1, 2).astype(np.int64)


def divide_by_length(grid: Grid, lengths: np.ndarray) -> list[Grid]:
    """Take questions out of a batch that are so long that they would pad all others.

    `lengths`, (questions of the split,), counts tokens. Those that are longer than half of the
    longest become a grid of their own if two grids cost less than one; then the same is asked of
    the others. The first grid has the shortest questions, and in each they keep their order.
    """
    rows = np.concatenate(grid)
    entries = np.repeat(np.arange(len(grid)), [len(entry) for entry in grid])
    left, longer = np.arange(len(rows)), []
    while True:
        tokens = lengths[rows[left]]
        long = tokens > tokens.max() // 2
        both = left[~long], left[long]
        if long.all() or sum(_cost(entries[half], lengths[rows[half]]) for half in both) >= _cost(
            entries[left], tokens
        ):
            break
        left = both[0]
        longer.append(both[1])
    if not longer:
        return [grid]
    return [
        np.split(rows[part], np.flatnonzero(np.diff(entries[part])) + 1) for part in (left, *longer)
    ]


def _cost(entries: np.ndarray, tokens: np.ndarray) -> int:
    """Return what questions cost as one part of a batch, in tokens, most of which are padding.

    For each question, `entries` has its picture and `tokens` its length.
    """
    slots = np.bincount(entries)
    pictures = np.count_nonzero(slots)
    return int(PART + pictures * (PICTURE + slots.max() * tokens.max()))
