"""Batches of cached features, which one background thread reads while the last one is used."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache import SplitTable
from frozen_vqa.pipeline.answers.targets import ClassScores
from frozen_vqa.pipeline.batches.batch import BatchPart, FeatureBatch
from frozen_vqa.pipeline.batches.plan import IMAGES, BatchPlan, Grid, divide_by_length
from frozen_vqa.pipeline.batches.residency import Buffer, ResidentFeatures
from frozen_vqa.pipeline.batches.rows import Rows
from frozen_vqa.pipeline.system.pinned import pinned_empty
from frozen_vqa.pipeline.system.tensors import as_array, as_tensor

AHEAD = 3
"""Batches that are being read or wait while one is used."""

PICTURE_PREFIXES, PREFIXES, QUESTIONS = 4, 64, 16
"""Sizes of a batch are rounded up to multiples of these, so that few shapes occur in a training.
Libraries prepare a kernel for each new shape, which takes longer than the padding."""


class BatchReader:
    """Reads the batches of one split, with soft targets if there are `scores`.

    A slot holds a question, or if `choosing` one of its choices; then the targets are of those.
    """

    def __init__(
        self,
        features: ResidentFeatures,
        split: SplitTable,
        *,
        scores: ClassScores | None = None,
        choosing: bool = False,
    ) -> None:
        self._features, self.scores = features, scores
        self._rows, self._choosing = Rows.of(split, choosing=choosing), choosing
        self._lengths = features.questions.lengths()[self._rows.text_rows]
        self.waited = 0.0
        """Seconds for which the consumer of `batches` has waited."""

    def batches(self, plan: BatchPlan) -> Iterator[FeatureBatch]:
        """Yield the batches, on the device; each is valid until the next one is asked for.

        Raises:
            CacheDamagedError: if a row differs from its digest; all batches before it come first.
        """
        with closing(self._read_ahead(plan)) as on_host:
            device = self._features.device
            if device.type == "cuda":
                yield from self._upload_ahead(on_host)
            else:  # where `to` copies nothing that is there, and else waits until it is
                yield from (batch.to(device) for batch, _ in on_host)

    def read(self, grid: Grid) -> FeatureBatch:
        """Return one batch in memory of its own, on the CPU.

        Raises:
            CacheDamagedError: if a row differs from its digest.
        """
        images = _round_up(len(grid), IMAGES)
        return self._read(grid, self._features.buffers.make(images * self._pictures))

    def require_usable(self, questions: np.ndarray) -> None:
        """Raise `CacheDamagedError` if a feature of these rows of the split is not finite."""
        rows = np.concatenate(self._rows.spread([questions]))
        pictures, texts = self._rows.picture_rows[rows], self._rows.text_rows[rows]
        self._features.cache.require_usable(pictures.ravel(), texts)

    @property
    def most_choices(self) -> int:
        """The most choices of a question; 1 unless slots hold choices."""
        return self._rows.most

    @property
    def _pictures(self) -> int:
        """Pictures of each question."""
        return self._rows.picture_rows.shape[1]

    def _read_ahead(self, plan: BatchPlan) -> Generator[tuple[FeatureBatch, Buffer], None, None]:
        images = _round_up(plan.most_images, IMAGES) * self._pictures
        if len(plan) and self._features.location == "mapped" and self._features.cache.arrivals:
            rows = np.concatenate(self._rows.spread([plan.rows]))
            self._features.cache.expect(self._rows.picture_rows[rows].ravel())
        pending: deque[tuple[Future[FeatureBatch], Buffer]] = deque()
        with self._features.buffers.lend(AHEAD + 1, images=images) as buffers:
            thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
            try:
                for i, grid in enumerate(plan):
                    buffer = buffers[i % len(buffers)]
                    pending.append((thread.submit(self._read, grid, buffer), buffer))
                    if len(pending) > AHEAD:
                        yield self._wait(*pending.popleft())
                while pending:
                    yield self._wait(*pending.popleft())
            finally:
                # Not `cancel_futures`: where Python ends while somebody still holds this generator,
                # it fails, because the modules that it uses are gone.
                for batch, _ in pending:
                    batch.cancel()
                thread.shutdown()

    def _wait(self, batch: Future[FeatureBatch], buffer: Buffer) -> tuple[FeatureBatch, Buffer]:
        asked = time.perf_counter()
        result = batch.result()
        self.waited += time.perf_counter() - asked
        return result, buffer

    def _upload_ahead(
        self, on_host: Iterator[tuple[FeatureBatch, Buffer]]
    ) -> Iterator[FeatureBatch]:
        """Copy one batch ahead, on a stream of its own; only its use waits for the copy."""
        stream = self._features.copies
        ahead: tuple[FeatureBatch, torch.cuda.Event] | None = None
        for batch, buffer in on_host:
            with torch.cuda.stream(stream):
                moved = self._upload(batch)
            buffer.copied = stream.record_event()
            if ahead:
                yield _await_copy(*ahead)
            ahead = moved, buffer.copied
        if ahead:
            yield _await_copy(*ahead)

    def _upload(self, batch: FeatureBatch) -> FeatureBatch:
        device = self._features.device
        moved = batch.map(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(moved, parts=[self._gather(part) for part in moved.parts])

    def _gather(self, part: BatchPart) -> BatchPart:
        """Return a part with its patches, if those of all pictures are on the GPU."""
        table, scales = self._features.on_gpu, self._features.scales_on_gpu
        if table is None:
            return part
        rows = part.image_rows
        return replace(
            part,
            patch_embeddings=self._join(table.index_select(0, rows)),
            patch_scales=None if scales is None else self._join(scales.index_select(0, rows)),
        )

    def _join(self, pictures: Tensor) -> Tensor:
        """Put the pictures of a question side by side.

        (images * pictures, patches, ...) -> (images, pictures * patches, ...)
        """
        return pictures.unflatten(0, (-1, self._pictures)).flatten(1, 2)

    def _read(self, grid: Grid, buffer: Buffer) -> FeatureBatch:
        first, *longer = divide_by_length(self._rows.spread(grid), self._lengths)
        parts = [self._read_part(first, buffer, _round_up(len(first), IMAGES))]
        # Longer questions are few, and each part of them has a shape of its own anyway.
        for few in longer:
            room = self._features.buffers.make(len(few) * self._pictures)
            parts.append(self._read_part(few, room, len(few)))
        batch = FeatureBatch(parts)
        if self._choosing:
            asked, slots = np.concatenate(grid), batch.questions
            places = self._tensor(self._rows.place(slots, asked))
            batch = FeatureBatch(parts, asked=asked, choices=self._rows.most, choice_places=places)
        if self.scores is None:
            return batch
        of, classes, values = self.scores.sparse(batch.questions)
        return replace(
            batch,
            target_indices=self._tensor(np.stack([of, classes])),
            target_values=self._tensor(values),
        )

    def _read_part(self, grid: Grid, buffer: Buffer, images: int) -> BatchPart:
        """Read some pictures and their questions, padded to a number of `images`."""
        slots = max(len(entry) for entry in grid)
        rows = np.full((images, slots), -1, dtype=np.int64)
        for i, entry in enumerate(grid):
            rows[i, : len(entry)] = entry
        question_slots = np.flatnonzero(rows >= 0)
        image_rows = np.zeros((images, self._pictures), dtype=np.int64)
        image_rows[: len(grid)] = self._rows.picture_rows[rows[: len(grid), 0]]
        flat = image_rows.reshape(-1)
        patches, scales = self._read_patches(flat, len(grid) * self._pictures, buffer)
        states, picture_prefixes, token_prefixes, mask = self._find_prefixes(rows)
        return BatchPart(
            image_rows=self._tensor(flat),
            patch_embeddings=patches,
            patch_scales=scales,
            hidden_states=self._tensor(states),
            picture_prefixes=self._tensor(picture_prefixes),
            token_prefixes=None if token_prefixes is None else self._tensor(token_prefixes),
            attention_mask=self._tensor(mask),
            question_slots=self._tensor(_pad(question_slots, QUESTIONS)),
            questions=rows.reshape(-1)[question_slots],
        )

    def _read_patches(
        self, image_rows: np.ndarray, count: int, buffer: Buffer
    ) -> tuple[Tensor | None, Tensor | None]:
        """Read the first `count` pictures into the buffer, and zeros for the padding after them."""
        if not self._features.read_by_batch:
            return None, None
        if buffer.copied is not None:
            buffer.copied.synchronize()
        patches = buffer.patches[: len(image_rows)]
        scales = None if buffer.scales is None else buffer.scales[: len(image_rows)]
        room = as_array(patches)
        into = None if scales is None else scales[:count].numpy()
        self._features.images.read_images(image_rows[:count], room[:count], into)
        room[count:] = 0
        if scales is not None:  # memory fresh from a GPU's driver may hold NaN
            scales.numpy()[count:] = 0
        return self._join(patches), None if scales is None else self._join(scales)

    def _find_prefixes(
        self, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
        """Find the distinct prefixes of a grid of (images, slots) rows of the split, -1 = empty.

        Returns `hidden_states`, `picture_prefixes`, `token_prefixes` and `attention_mask` of the
        batch.
        """
        questions = self._features.questions
        question_rows = self._rows.text_rows[rows]
        lengths = np.where(rows >= 0, self._lengths[rows], 0)
        steps = np.arange(int(lengths.max()))
        mask = steps < lengths[..., None]  # (images, slots, tokens)
        starts = questions.path_offsets[:-1][question_rows]
        prefixes = questions.path_rows[(starts[..., None] + steps)[mask]]
        distinct, inverse = np.unique(prefixes, return_inverse=True)
        # By numpy, in this thread alone: torch would ask for the threads that train.
        states = np.take(questions.hidden_states, _pad(distinct, PREFIXES), axis=0)
        token_prefixes = np.zeros(mask.shape, dtype=np.int64)
        token_prefixes[mask] = inverse
        if rows.shape[1] == 1:
            return states, token_prefixes[:, 0], None, mask
        picture_prefixes, token_prefixes[mask] = _distinct_of_each(
            np.nonzero(mask)[0], inverse, len(rows)
        )
        return states, picture_prefixes, token_prefixes, mask

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = as_tensor(array)
        if self._features.device.type != "cuda":
            return tensor
        return pinned_empty(tensor.shape, tensor.dtype).copy_(tensor)


def _await_copy(batch: FeatureBatch, event: torch.cuda.Event) -> FeatureBatch:
    """Let the current stream wait for a batch, and keep its memory until that stream is done."""
    current = torch.cuda.current_stream(event.device)
    current.wait_event(event)

    def hold(tensor: Tensor) -> Tensor:
        tensor.record_stream(current)
        return tensor

    return batch.map(hold)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _pad(values: np.ndarray, multiple: int) -> np.ndarray:
    """Repeat the first value at the end until the length is a multiple."""
    return np.append(values, np.repeat(values[:1], _round_up(len(values), multiple) - len(values)))


def _distinct_of_each(
    images: np.ndarray, rows: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort prefixes by picture.

    For n tokens, `images` has the picture, rising, and `rows` the prefix. Return (count, picture
    prefixes) the distinct prefixes of each picture, padded with 0, and (n,) which of them each
    token has.
    """
    several = int(rows.max()) + 1
    pairs, which = np.unique(images * several + rows, return_inverse=True)
    of, prefix = np.divmod(pairs, several)
    counts = np.bincount(of, minlength=count)
    column = np.arange(len(pairs)) - (np.cumsum(counts) - counts)[of]
    distinct = np.zeros((count, _round_up(int(counts.max()), PICTURE_PREFIXES)), dtype=np.int64)
    distinct[of, column] = prefix
    return distinct, column[which]
