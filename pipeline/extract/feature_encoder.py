"""Encodes the pictures and questions of one data set, a chunk at a time, into arrays to store.

Pictures are encoded in batches. Questions make a tree of token prefixes, and only its leaves are
run: a question that is the beginning of another gets its states from the longer one.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from frozen_vqa.cache import CacheSpec, Failure
from frozen_vqa.cache.format.quantise import quantise
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
from frozen_vqa.pipeline.extract.batch_size import BatchSize
from frozen_vqa.pipeline.extract.chunks import QuestionChunk
from frozen_vqa.pipeline.extract.decoder import DecodedPicture, PictureDecoder
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.throughput import PhaseTimer
from frozen_vqa.pipeline.sources.example import Id, Source

TEXT_BATCH = 64
"""Questions of equal length per batch; a constant, because it may change the last bit."""


@dataclass(frozen=True)
class EncodedImages:
    """The features of one chunk of pictures, and the pictures that cannot be read."""

    new: NewImages
    failures: Sequence[Failure]

    def to_shard(self, spec: CacheSpec, origin: Mapping[str, Json]) -> Shard | None:
        """Return the features as a shard; None if no picture can be read."""
        return image_shard(spec, self.new, origin=origin) if self.new.image_ids else None


def cache_spec(images: ImageEncoder, text: TextEncoder, dtype: str) -> CacheSpec:
    """Return the spec of a cache made by these encoders."""
    return CacheSpec(
        vision=images.settings,
        text=text.settings,
        grid=images.grid,
        vision_dim=images.dim,
        text_dim=text.dim,
        dtype=dtype,
    )


class FeatureEncoder:
    """Both frozen encoders, and the data set that they encode into one cache of `dtype`."""

    def __init__(
        self, source: Source, plan: Plan, images: ImageEncoder, text: TextEncoder, dtype: str
    ) -> None:
        self.plan, self.images, self.text = plan, images, text
        self.spec = cache_spec(images, text, dtype)
        self.source, self.decoder = source, PictureDecoder(source, images)

    def encode_images(
        self, chunks: Sequence[Sequence[Id]], batch_size: BatchSize, timer: PhaseTimer
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
        spec = self.spec
        ids: list[str] = []
        failures: list[Failure] = []
        thumbnails = np.empty((count, THUMBNAIL), np.uint8)
        contents = np.empty((count, CONTENT), np.uint8)
        patches = np.empty((count, spec.patches, spec.vision_dim), spec.image_dtype)
        scales = np.empty((count, spec.patches), SCALE_DTYPE) if spec.quantised else None
        cls = np.empty((count, spec.vision_dim), spec.state_dtype)
        while len(ids) + len(failures) < count:
            batch = next(batches)
            good = [one for one in batch if isinstance(one, DecodedPicture)]
            failures += [one for one in batch if isinstance(one, Failure)]
            if good:
                rows = slice(len(ids), len(ids) + len(good))
                ids += [one.image_id for one in good]
                thumbnails[rows] = [one.thumbnail for one in good]
                contents[rows] = [one.content for one in good]
                pixels = np.stack([one.pixels for one in good])
                with timer.measure("encoding"):
                    new_patches, new_cls = batch_size.encode(self.images, pixels)
                    patches[rows], new_scales = patches_to_numpy(new_patches, spec.dtype)
                    if scales is not None:
                        scales[rows] = new_scales
                    cls[rows] = to_numpy(new_cls, spec.state_dtype.name)
            timer.advance(len(batch), note=f"{len(failures)} unreadable" if failures else "")
        rows = slice(len(ids))
        scales = None if scales is None else scales[rows]
        new = NewImages(ids, thumbnails[rows], patches[rows], cls[rows], scales, contents[rows])
        return EncodedImages(new, failures)

    def failures_of(self, encoded: EncodedImages) -> list[Failure]:
        """Return a failure for each id of the pictures that cannot be read."""
        failed = {failure.id: failure.reason for failure in encoded.failures}
        return [
            Failure(str(i), self.source.where(i), failed[self.plan.name(i)])
            for i in (self.plan.image_ids if failed else ())
            if self.plan.name(i) in failed
        ]

    def encode_questions(self, chunk: QuestionChunk, timer: PhaseTimer) -> NewQuestions:
        """Encode the new prefixes of one chunk."""
        dtype = self.spec.state_dtype
        states = np.empty((len(chunk.tokens), self.text.dim), dtype)
        batches = list(_batch_equal_lengths(chunk))
        timer.advance(len(chunk) - sum(map(len, batches)))
        for batch in batches:
            rows = np.array([chunk.paths[text] for text in batch])  # (questions, length)
            new = rows >= chunk.first
            with timer.measure("encoding"):
                encoded = self.text.encode([chunk.questions[text] for text in batch])
                states[rows[new] - chunk.first] = to_numpy(encoded, dtype.name)[new]
            timer.advance(len(batch))
        paths = chunk.paths
        return NewQuestions(list(paths), list(paths.values()), chunk.parents, chunk.tokens, states)


def _batch_equal_lengths(chunk: QuestionChunk) -> Iterator[list[str]]:
    """Yield batches of questions of one length, without those that need no run.

    The cache has their states, or a longer question of the chunk begins with the same prefix.
    """
    inner = {row for path in chunk.paths.values() for row in path[:-1]}
    by_length: dict[int, list[str]] = {}
    for text, path in chunk.paths.items():
        if path[-1] >= chunk.first and path[-1] not in inner:
            by_length.setdefault(len(path), []).append(text)
    for _, texts in sorted(by_length.items()):
        for begin in range(0, len(texts), TEXT_BATCH):
            yield texts[begin : begin + TEXT_BATCH]


def to_numpy(features: torch.Tensor, dtype: str) -> np.ndarray:
    """Copy features from the encoder's device into memory, in `dtype`."""
    return features.to(getattr(torch, dtype)).cpu().numpy()


def patches_to_numpy(features: torch.Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Copy patch embeddings, (images, patches, vision_dim), as a cache of this dtype has them.

    Returns:
        The numbers, and for "int8" their scales (images, patches).
    """
    if dtype != "int8":
        return to_numpy(features, dtype), None
    # The copy leaves the device in its own narrow dtype; one picture fits the processor's cache.
    integers, scales = zip(
        *(quantise(to_numpy(one, "float32")) for one in features.cpu()), strict=True
    )
    return np.stack(integers), np.stack(scales)
