"""Encodes the pictures and questions of one data set, a chunk at a time, into arrays to store.

Pictures are encoded in batches. Questions make a tree of token prefixes, and each prefix is
computed once, but for those that several parts of the tree have in common. A `QuestionModel` of the
user's own takes whole questions: the ends of the tree's branches, in batches of equal length.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from frozen_vqa.cache import CacheSpec, Failure
from frozen_vqa.cache.format.pool import pool_patches
from frozen_vqa.cache.format.quantise import quantise_parts
from frozen_vqa.cache.format.shards import (
    CONTENT,
    THUMBNAIL,
    NewImages,
    NewQuestions,
    Shard,
    image_shard,
)
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError, unless_out_of_memory
from frozen_vqa.pipeline.extract.batch_size import BatchSize
from frozen_vqa.pipeline.extract.chunks import QuestionChunk
from frozen_vqa.pipeline.extract.decoder import DecodedPicture, PictureDecoder
from frozen_vqa.pipeline.extract.models.device_copies import DeviceCopies
from frozen_vqa.pipeline.extract.models.several import cache_spec
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.prefixes import prefix_trees
from frozen_vqa.pipeline.extract.throughput import PhaseTimer
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.system.tensors import as_array, torch_dtype

TREE_TOKENS = 1024
"""Prefixes that are computed at once; a constant, because it may change the last bit."""

TEXT_BATCH = 64
"""Questions of equal length per batch; a constant too."""


@dataclass(frozen=True)
class EncodedImages:
    """The features of one chunk of pictures, and the pictures that cannot be read."""

    new: NewImages
    failures: Sequence[Failure]

    def to_shard(self, spec: CacheSpec, origin: Mapping[str, Json]) -> Shard | None:
        """Return the features as a shard; None if no picture can be read."""
        return image_shard(spec, self.new, origin=origin) if self.new.image_ids else None


class FeatureEncoder:
    """Both frozen encoders, and the data set that they encode into one cache.

    `dtype` is how numbers are stored. Squares of `pool` by `pool` patches are stored as their mean.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        images: ImageEncoder,
        text: TextEncoder,
        dtype: str,
        pool: int = 1,
    ) -> None:
        self.plan, self.images, self.text, self.pool = plan, images, text, pool
        self.spec = cache_spec(images, text, dtype, pool)
        self.source, self.decoder = source, PictureDecoder(source, images)
        self._copies = DeviceCopies(images.device)

    def encode_images(
        self, chunks: Collection[Sequence[Id]], batch_size: BatchSize, timer: PhaseTimer
    ) -> Generator[EncodedImages, None, None]:
        """Yield the features of each chunk, which has at least one picture.

        Close the generator to end its threads.
        """
        with closing(self.decoder.decode_batches(chunks, batch_size, timer)) as batches:
            for chunk in chunks:
                yield self._encode_chunk(len(chunk), batches, batch_size, timer)

    def _encode_chunk(
        self,
        count: int,
        batches: Iterator[list[DecodedPicture | Failure]],
        batch_size: BatchSize,
        timer: PhaseTimer,
    ) -> EncodedImages:
        """Encode the next `count` pictures."""
        spec, copies = self.spec, self._copies
        ids: list[str] = []
        failures: list[Failure] = []
        sent = []  # pixels that the device may not have read yet
        thumbnails = np.empty((count, THUMBNAIL), np.uint8)
        contents = np.empty((count, CONTENT), np.uint8)
        patches = copies.empty((count, spec.patches, spec.vision_dim), spec.image_dtype)
        scales = np.empty((count, *spec.scales), SCALE_DTYPE) if spec.quantised else None
        cls = copies.empty((count, spec.vision_dim), spec.state_dtype)
        while len(ids) + len(failures) < count:
            batch = next(batches)
            good = [one for one in batch if isinstance(one, DecodedPicture)]
            failures += [one for one in batch if isinstance(one, Failure)]
            if good:
                rows = slice(len(ids), len(ids) + len(good))
                ids += [one.image_id for one in good]
                thumbnails[rows] = [one.thumbnail for one in good]
                contents[rows] = [one.content for one in good]
                pixels = copies.empty((len(good), *good[0].pixels.shape), np.dtype(np.uint8))
                sent.append(np.stack([one.pixels for one in good], out=pixels))
                with timer.measure("encoding"):
                    encoded, new_cls = batch_size.encode(self.images, pixels)
                    new_patches = pooled(encoded, self.images.grid, self.pool)
                    copies.start(new_cls, cls[rows])
                    if scales is None:
                        copies.start(new_patches, patches[rows])
                    else:
                        patches[rows], scales[rows] = quantised(new_patches, spec.vision_dims)
            timer.advance(len(batch), note=f"{len(failures)} unreadable" if failures else "")
        with timer.measure("encoding"):
            copies.wait()
        rows = slice(len(ids))
        scales = None if scales is None else scales[rows]
        new = NewImages(ids, thumbnails[rows], patches[rows], cls[rows], scales, contents[rows])
        return EncodedImages(new, failures)

    def failures_of(self, failures: Sequence[Failure]) -> list[Failure]:
        """Return a failure for each id of the pictures that cannot be read."""
        failed = {failure.id: failure.reason for failure in failures}
        return [
            Failure(str(i), self.source.where(i), failed[self.plan.name(i)])
            for i in (self.plan.image_ids if failed else ())
            if self.plan.name(i) in failed
        ]

    def encode_questions(self, chunk: QuestionChunk, timer: PhaseTimer) -> NewQuestions:
        """Encode the new prefixes of one chunk; raise `ModelError` if one question is too large."""
        states = np.empty((len(chunk.tokens), self.text.dim), self.spec.state_dtype)
        run = list(_branches(chunk))
        timer.advance(len(chunk) - len(run))
        self._encode_questions(chunk, run, states, timer)
        paths = chunk.paths
        return NewQuestions(list(paths), list(paths.values()), chunk.parents, chunk.tokens, states)

    def _encode_questions(
        self, chunk: QuestionChunk, run: Sequence[str], states: np.ndarray, timer: PhaseTimer
    ) -> None:
        """Put the states of some questions into their rows, in halves where memory runs out."""

        def states_of(encode: Callable[[], torch.Tensor]) -> np.ndarray:
            return to_numpy(encode(), torch_dtype(states.dtype))

        for batch, encode, rows in self._question_batches(chunk, run):
            with timer.measure("encoding"):
                found = unless_out_of_memory(partial(states_of, encode))
            if found is not None:
                new = rows >= chunk.first
                states[rows[new] - chunk.first] = found[new]
                timer.advance(len(batch))
                continue
            if len(batch) == 1:
                raise ModelError(
                    f"{self.text.name}: a question of {rows.size} tokens does not fit the memory "
                    f"of {self.text.device}; use a smaller --text-model, --compute-dtype bfloat16 "
                    f"or another --device"
                )
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self._encode_questions(chunk, half, states, timer)

    def _question_batches(
        self, chunk: QuestionChunk, run: Sequence[str]
    ) -> Iterator[tuple[Sequence[str], Callable[[], torch.Tensor], np.ndarray]]:
        """Yield the questions of a batch, what encodes it, and the rows of the states."""
        text = self.text
        if not text.encodes_trees:
            yield from self._equal_lengths(chunk, run)
            return
        for tree in prefix_trees(run, chunk.questions, chunk.paths, most=TREE_TOKENS):
            rows, tokens = np.array(list(tree.places)), tree.tokens
            if len(tree.questions) == 1:  # it needs no mask, which is quadratic in its length
                yield tree.questions, partial(text.encode, [tokens]), rows[np.newaxis]
            else:
                yield tree.questions, partial(text.encode_tree, tokens, tree.parents), rows

    def _equal_lengths(
        self, chunk: QuestionChunk, run: Sequence[str]
    ) -> Iterator[tuple[Sequence[str], Callable[[], torch.Tensor], np.ndarray]]:
        """Yield batches of whole questions of one length."""
        by_length: dict[int, list[str]] = {}
        for question in run:
            by_length.setdefault(len(chunk.paths[question]), []).append(question)
        for _, questions in sorted(by_length.items()):
            for begin in range(0, len(questions), TEXT_BATCH):
                batch = questions[begin : begin + TEXT_BATCH]
                encode = partial(self.text.encode, [chunk.questions[one] for one in batch])
                yield batch, encode, np.array([chunk.paths[one] for one in batch])


def _branches(chunk: QuestionChunk) -> Iterator[str]:
    """Yield the questions of a chunk that need a run.

    The cache has the states of the others, or a longer question of the chunk begins with them.
    """
    inner = {row for path in chunk.paths.values() for row in path[:-1]}
    for question, path in chunk.paths.items():
        if path[-1] >= chunk.first and path[-1] not in inner:
            yield question


def pooled(features: torch.Tensor, grid: tuple[int, int], pool: int) -> torch.Tensor:
    """Return patch embeddings as a pooled cache has them: float32 means, where they are."""
    return features if pool == 1 else pool_patches(features.float(), grid, pool)


def to_numpy(features: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    """Copy features from the encoder's device into memory, in `dtype`."""
    return as_array(features.to(dtype).cpu())


def patches_to_numpy(
    features: torch.Tensor, dtype: str, dims: Sequence[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Copy patch embeddings, (images, patches, vision_dim), as a cache of this dtype has them.

    Returns:
        The numbers, and for "int8" their scales, as `quantise_parts` has them for parts of `dims`.
    """
    if dtype == "int8":
        return quantised(features, dims)
    return to_numpy(features, getattr(torch, dtype)), None


def quantised(features: torch.Tensor, dims: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Copy patch embeddings as an int8 cache has them: the numbers and their scales."""
    # The copy leaves the device in its own narrow dtype; one picture fits the processor's cache.
    integers, scales = zip(
        *(quantise_parts(to_numpy(one, torch.float32), dims) for one in features.cpu()), strict=True
    )
    return np.stack(integers), np.stack(scales)
