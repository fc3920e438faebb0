"""Whole batches of cached features, in an order that is a function of seed and epoch.

A batch is a grid of pictures and of the questions asked about each ("slots"). Grouped order puts
all questions of a picture beside it, so that the picture is read, projected and turned into keys
and values once for them; plain order is the same grid with one slot.
"""

import mmap
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from cache import FeatureCache, SplitTable
from cache.spec import SCALE_DTYPE
from pipeline.answers import ClassScores

MAX_SLOTS = 16
"""Questions of one picture in a batch; a picture with more comes several times."""

BUCKET = 16
"""Batches among which pictures are sorted by their number of questions, to pad less."""

AHEAD = 2
"""Batches made in advance by the background thread."""


@dataclass(frozen=True)
class FeatureBatch:
    """Features of some questions and their pictures.

    Attributes:
        patch_embeddings: (images, patches, vision_dim).
        patch_scales: (images, patches) of an int8 cache, else None.
        hidden_states: (images, slots, tokens, text_dim); what is padding is undefined.
        attention_mask: (images, slots, tokens), True = real token; a slot without any is empty.
        questions: (questions,) rows of the split, in the order of the slots that are not empty.
        soft_targets: (questions, answers), or None where none were asked for.
    """

    patch_embeddings: Tensor
    patch_scales: Tensor | None
    hidden_states: Tensor
    attention_mask: Tensor
    questions: np.ndarray
    soft_targets: Tensor | None

    def to(self, device: torch.device) -> "FeatureBatch":
        """Return the batch on `device`."""
        scales, targets = self.patch_scales, self.soft_targets
        return FeatureBatch(
            self.patch_embeddings.to(device),
            None if scales is None else scales.to(device),
            self.hidden_states.to(device),
            self.attention_mask.to(device),
            self.questions,
            None if targets is None else targets.to(device),
        )


Grid = list[np.ndarray]
"""A batch before it is read: for each picture the rows of its questions in the split."""


def plan_batches(
    image_rows: np.ndarray, *, batch_size: int, grouped: bool, shuffle: tuple[int, int] | None
) -> list[Grid]:
    """Put the questions of a split into batches, each exactly once.

    Args:
        image_rows: (questions,) row of each question's picture.
        batch_size: Most questions in a batch.
        grouped: Whether questions of one picture go together.
        shuffle: Seed and epoch, or None for the order of the split (by picture, if grouped).
    """
    rng = np.random.default_rng(shuffle) if shuffle is not None else None
    slots = min(MAX_SLOTS, batch_size) if grouped else 1
    order = np.arange(len(image_rows))
    if rng is not None:
        order = rng.permutation(order)
    entries = _entries(image_rows, order, slots) if grouped else list(order[:, None])
    if rng is not None and grouped:
        entries = [entries[i] for i in rng.permutation(len(entries))]
        entries = _sorted_in_buckets(entries, batch_size * BUCKET)
    batches: list[Grid] = []
    count = batch_size
    for entry in entries:
        if count + len(entry) > batch_size:
            batches.append([])
            count = 0
        batches[-1].append(entry)
        count += len(entry)
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def _entries(image_rows: np.ndarray, order: np.ndarray, slots: int) -> Grid:
    """Group questions by picture, at most `slots` together."""
    by_image = order[np.argsort(image_rows[order], kind="stable")]
    edges = np.flatnonzero(np.diff(image_rows[by_image])) + 1
    return [
        group[first : first + slots]
        for group in np.split(by_image, edges)
        for first in range(0, len(group), slots)
    ]


def _sorted_in_buckets(entries: Grid, questions: int) -> Grid:
    """Sort stretches of about so many questions by the number of questions per picture.

    Every other one is sorted backwards: a batch over the edge of two would otherwise put pictures
    with the most questions beside those with the fewest, and be mostly padding.
    """
    counts = np.cumsum([len(entry) for entry in entries])
    bucket_of = (counts - 1) // questions
    out: Grid = []
    for number, bucket in groupby(zip(bucket_of, entries, strict=True), key=itemgetter(0)):
        out += sorted((entry for _, entry in bucket), key=len, reverse=bool(number % 2))
    return out


class BatchReader:
    """Reads batches of one split from the cache.

    Args:
        cache: The features.
        split: The questions.
        scores: Soft targets of the questions, or None.
        answers: Size of the vocabulary.
    """

    def __init__(
        self,
        cache: FeatureCache,
        split: SplitTable,
        *,
        scores: ClassScores | None = None,
        answers: int = 0,
    ) -> None:
        self._cache = cache
        self._split = split
        self._scores = scores
        self._answers = answers
        questions = cache.questions
        self._states = torch.from_numpy(questions.hidden_states)
        self._path_rows = questions.path_rows
        self._path_starts = questions.path_offsets[:-1]
        self._lengths = questions.lengths()
        self._buffers: list[np.ndarray] = []
        self.waited = 0.0
        """Seconds for which the consumer of `batches` has waited."""

    def batches(self, plan: Sequence[Grid]) -> Iterator[FeatureBatch]:
        """Yield the batches of a plan; a batch is valid until the next one is asked for."""
        self._allocate(max((len(grid) for grid in plan), default=0))
        ready: queue.Queue[FeatureBatch | BaseException | None] = queue.Queue(AHEAD)
        stop = threading.Event()

        def work() -> None:
            try:
                for i, grid in enumerate(plan):
                    if not _put(
                        ready, self._read(grid, self._buffers[i % len(self._buffers)]), stop
                    ):
                        return
                _put(ready, None, stop)
            except BaseException as error:  # carried over to the consumer's thread
                _put(ready, error, stop)

        thread = threading.Thread(target=work, name="batches", daemon=True)
        thread.start()
        try:
            while True:
                asked = time.perf_counter()
                item = ready.get()
                self.waited += time.perf_counter() - asked
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def _allocate(self, images: int) -> None:
        """Make page-aligned buffers: into numpy's usual alignment some CPUs copy 5 times slower."""
        spec = self._cache.spec
        if self._buffers and len(self._buffers[0]) >= images:
            return
        shape = (images, spec.patches, spec.vision_dim)
        dtype = spec.image_dtype
        nbytes = max(1, int(np.prod(shape)) * dtype.itemsize)
        # One being read into, AHEAD waiting, one in use.
        self._buffers = [
            np.frombuffer(mmap.mmap(-1, nbytes), dtype, int(np.prod(shape))).reshape(shape)
            for _ in range(AHEAD + 2)
        ]

    def _read(self, grid: Grid, buffer: np.ndarray) -> FeatureBatch:
        slots = max(len(entry) for entry in grid)
        rows = np.full((len(grid), slots), -1, dtype=np.int64)
        for i, entry in enumerate(grid):
            rows[i, : len(entry)] = entry
        questions = rows[rows >= 0]
        patches = buffer[: len(grid)]
        scales = None
        if self._cache.spec.quantised:
            scales = np.empty(patches.shape[:2], SCALE_DTYPE)
        self._cache.read_images(self._split.image_rows[rows[:, 0]], patches, scales)
        states, mask = self._question_states(rows)
        targets = None
        if self._scores is not None:
            targets = torch.from_numpy(self._scores.dense(questions, self._answers))
        return FeatureBatch(
            torch.from_numpy(patches),
            None if scales is None else torch.from_numpy(scales),
            states,
            mask,
            questions,
            targets,
        )

    def _question_states(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """(images, slots) rows, -1 = empty -> hidden states and attention mask."""
        question_rows = self._split.question_rows[rows]
        lengths = np.where(rows >= 0, self._lengths[question_rows], 0)
        steps = np.arange(lengths.max())
        mask = steps < lengths[..., None]  # (images, slots, tokens)
        # Past the end of a path any row will do: the mask says that it is padding.
        places = np.where(mask, self._path_starts[question_rows][..., None] + steps, 0)
        path = torch.from_numpy(self._path_rows[places])
        states = self._states.index_select(0, path.flatten()).unflatten(0, path.shape)
        return states, torch.from_numpy(mask)


def _put(ready: queue.Queue, item: object, stop: threading.Event) -> bool:
    """Put an item, unless the consumer has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
