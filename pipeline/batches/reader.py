"""Whole batches of cached features, made by one background thread while the last one is used."""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache import SplitTable
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.memory import aligned_empty
from frozen_vqa.pipeline.answers.vocabulary import ClassScores
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import IMAGES, Grid, Order
from frozen_vqa.pipeline.batches.residency import Buffer, Features

AHEAD = 2
"""Batches made in advance by the background thread."""

WORDS, PREFIXES, QUESTIONS = 4, 64, 16
"""Sizes of a batch are rounded up to multiples of these, so that few shapes occur in a training.
Libraries prepare a kernel for each new shape, which takes longer than the padding."""


class BatchReader:
    """Makes batches of one split.

    Args:
        features: Of the cache.
        split: The questions.
        scores: Soft targets of the questions, or None.
    """

    def __init__(
        self, features: Features, split: SplitTable, *, scores: ClassScores | None = None
    ) -> None:
        self._features = features
        self._split = split
        self._scores = scores
        self._lengths = features.questions.lengths()
        self.waited = 0.0
        """Seconds for which the consumer of `batches` has waited."""

    def batches(self, order: Order) -> Iterator[FeatureBatch]:
        """Yield the batches, on the device; each is valid until the next one is asked for."""
        with closing(self._on_host(order)) as on_host:
            if self._features.device.type == "cpu":
                yield from (batch for batch, _ in on_host)
            else:
                yield from self._on_gpu(on_host)

    def _on_host(self, order: Order) -> Generator[tuple[FeatureBatch, Buffer], None, None]:
        buffers = self._take_buffers(_rounded(order.most_images, IMAGES))
        ready: queue.Queue[tuple[FeatureBatch, Buffer] | BaseException | None]
        ready = queue.Queue(AHEAD)
        stop = threading.Event()

        def work() -> None:
            try:
                for i, grid in enumerate(order):
                    buffer = buffers[i % len(buffers)]
                    if not _put(ready, (self._read(grid, buffer), buffer), stop):
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
            self._features.buffers = buffers

    def _on_gpu(self, on_host: Iterator[tuple[FeatureBatch, Buffer]]) -> Iterator[FeatureBatch]:
        """Copy one batch ahead, on a stream of its own; nothing waits for the copy but its use."""
        device = self._features.device
        stream = torch.cuda.Stream(device)
        ahead: tuple[FeatureBatch, torch.cuda.Event] | None = None
        for batch, buffer in on_host:
            with torch.cuda.stream(stream):
                moved = self._uploaded(batch)
            buffer.copied = stream.record_event()
            if ahead:
                yield _arrived(*ahead)
            ahead = moved, buffer.copied
        if ahead:
            yield _arrived(*ahead)

    def _uploaded(self, batch: FeatureBatch) -> FeatureBatch:
        features = self._features
        moved = {
            name: tensor.to(features.device, non_blocking=True)
            for name, tensor in batch.tensors().items()
        }
        if features.on_gpu is not None:
            rows = moved["image_rows"]
            moved["patch_embeddings"] = features.on_gpu.index_select(0, rows)
            if features.scales_on_gpu is not None:
                moved["patch_scales"] = features.scales_on_gpu.index_select(0, rows)
        values = {field.name: getattr(batch, field.name) for field in fields(batch)}
        return FeatureBatch(**(values | moved))

    def _take_buffers(self, images: int) -> list[Buffer]:
        """Return room for one batch being read, AHEAD waiting, and one in use.

        Who reads next takes them over, so that training and validation need them only once.
        """
        buffers, self._features.buffers = self._features.buffers, []
        if buffers and len(buffers[0].patches) >= images:
            return buffers
        buffers.clear()  # before there are larger ones
        spec, on_host = self._features.cache.spec, self._features.place != "gpu"
        shape = (images if on_host else 0, spec.patches, spec.vision_dim)
        return [
            Buffer(
                self._empty(shape, spec.image_dtype),
                self._empty(shape[:2], np.dtype(SCALE_DTYPE)) if spec.quantised else None,
            )
            for _ in range(AHEAD + 2)
        ]

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
        if self._features.device.type == "cpu":
            return torch.from_numpy(aligned_empty(shape, dtype))
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(shape, dtype=kind, pin_memory=True)

    def _read(self, grid: Grid, buffer: Buffer) -> FeatureBatch:
        slots = max(len(entry) for entry in grid)
        rows = np.full((_rounded(len(grid), IMAGES), slots), -1, dtype=np.int64)
        for i, entry in enumerate(grid):
            rows[i, : len(entry)] = entry
        places = np.flatnonzero(rows >= 0)
        questions = rows.reshape(-1)[places]
        image_rows = np.zeros(len(rows), dtype=np.int64)
        image_rows[: len(grid)] = self._split.image_rows[rows[: len(grid), 0]]
        patches = scales = None
        if self._features.place != "gpu":
            if buffer.copied is not None:
                buffer.copied.synchronize()
            patches = buffer.patches[: len(rows)]
            scales = None if buffer.scales is None else buffer.scales[: len(rows)]
            into = None if scales is None else scales[: len(grid)].numpy()
            room = patches.numpy()
            self._features.images.read_images(image_rows[: len(grid)], room[: len(grid)], into)
            room[len(grid) :] = 0
            if scales is not None:  # in memory fresh from a GPU's driver may be NaN
                scales.numpy()[len(grid) :] = 0
        states, words, paths, mask = self._question_states(rows)
        targets, values = None, None
        if self._scores is not None:
            of, classes, values = self._scores.sparse(questions)
            targets = np.stack([of, classes])
        return FeatureBatch(
            image_rows=self._tensor(image_rows),
            patch_embeddings=patches,
            patch_scales=scales,
            hidden_states=self._pinned(states),
            words=self._tensor(words),
            paths=None if paths is None else self._tensor(paths),
            attention_mask=self._tensor(mask),
            places=self._tensor(_padded(places, QUESTIONS)),
            questions=questions,
            target_places=None if targets is None else self._tensor(targets),
            target_values=None if values is None else self._tensor(values),
        )

    def _question_states(
        self, rows: np.ndarray
    ) -> tuple[Tensor, np.ndarray, np.ndarray | None, np.ndarray]:
        """(images, slots) rows, -1 = empty -> distinct hidden states, words, paths, mask."""
        questions = self._features.questions
        question_rows = self._split.question_rows[rows]
        lengths = np.where(rows >= 0, self._lengths[question_rows], 0)
        steps = np.arange(int(lengths.max()))
        mask = steps < lengths[..., None]  # (images, slots, tokens)
        starts = questions.path_offsets[:-1][question_rows]
        prefixes = questions.path_rows[(starts[..., None] + steps)[mask]]
        distinct, inverse = np.unique(prefixes, return_inverse=True)
        # By numpy, in this thread alone: torch would ask for the threads that train.
        states = np.take(questions.hidden_states, _padded(distinct, PREFIXES), axis=0)
        paths = np.zeros(mask.shape, dtype=np.int64)
        paths[mask] = inverse
        if rows.shape[1] == 1:
            return torch.from_numpy(states), paths[:, 0], None, mask
        words, paths[mask] = _distinct_of_each(np.nonzero(mask)[0], inverse, len(rows))
        return torch.from_numpy(states), words, paths, mask

    def _tensor(self, array: np.ndarray) -> Tensor:
        return self._pinned(torch.from_numpy(array))

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor if self._features.device.type == "cpu" else tensor.pin_memory()


def _arrived(batch: FeatureBatch, event: torch.cuda.Event) -> FeatureBatch:
    """Let the current stream wait for a batch, and keep its memory until that stream is done."""
    current = torch.cuda.current_stream(event.device)
    current.wait_event(event)
    for tensor in batch.tensors().values():
        tensor.record_stream(current)
    return batch


def _rounded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _padded(values: np.ndarray, multiple: int) -> np.ndarray:
    """Repeat the first value at the end until the length is a multiple."""
    return np.append(values, np.repeat(values[:1], _rounded(len(values), multiple) - len(values)))


def _distinct_of_each(
    images: np.ndarray, rows: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort words by picture.

    Args:
        images: (n,) the picture that each word belongs to, rising.
        rows: (n,) what word it is.
        count: Pictures.

    Returns:
        (count, words) the distinct words of each picture, padded with 0, and (n,) which of them
        each word is.
    """
    several = int(rows.max()) + 1
    pairs, which = np.unique(images * several + rows, return_inverse=True)
    of, word = np.divmod(pairs, several)
    counts = np.bincount(of, minlength=count)
    column = np.arange(len(pairs)) - (np.cumsum(counts) - counts)[of]
    words = np.zeros((count, _rounded(int(counts.max()), WORDS)), dtype=np.int64)
    words[of, column] = word
    return words, column[which]


def _put(ready: queue.Queue, item: object, stop: threading.Event) -> bool:
    """Put an item, unless the consumer has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
