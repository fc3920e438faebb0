"""Stage one's pictures: decoded by threads, encoded in batches, a shard at a time."""

import os
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frozen_vqa.cache import CacheMismatchError, CacheSpec, Failure, Manifest
from frozen_vqa.cache.disk.integrity import open_shard
from frozen_vqa.cache.format.quantise import quantise
from frozen_vqa.cache.format.shards import THUMBNAIL, NewImages
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.pipeline.encoders.encoders import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.extract.batch_size import BatchSize
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.throughput import Pace
from frozen_vqa.pipeline.sources.example import Id, Source

DECODERS = min(16, max(4, os.cpu_count() or 4))
"""Threads that read and resize pictures while the encoder works, which a GPU does faster."""

SPOT_CHECKS = 8
ANOTHER_PICTURE = 16
"""Grey levels of 255; decoders of one picture differ by one or two in a thumbnail."""


@dataclass(frozen=True)
class Decoded:
    """A picture as the encoder takes it.

    Attributes:
        image_id: As the cache has it.
        pixels: (side, side, 3) uint8.
        thumbnail: (THUMBNAIL,) uint8.
    """

    image_id: str
    pixels: np.ndarray
    thumbnail: np.ndarray


@dataclass(frozen=True)
class EncodedImages:
    """What became of a chunk of pictures."""

    new: NewImages
    failures: Sequence[Failure]


def image_chunks(plan: Plan, stored: Collection[str], rows: int) -> list[list[Id]]:
    """Return the pictures that the cache lacks, in pieces of at most one shard.

    Which pictures make a piece depends on their place in the plan alone, so that it does not
    matter what was stored or has failed before.
    """
    chunks: dict[int, list[Id]] = {}
    for place, image_id in enumerate(plan.images):
        if str(image_id) not in stored:
            chunks.setdefault(place // rows, []).append(image_id)
    return list(chunks.values())


def encode_images(
    source: Source,
    chunks: Sequence[Sequence[Id]],
    encoder: ImageEncoder,
    spec: CacheSpec,
    *,
    batch_size: BatchSize,
    pace: Pace,
) -> Generator[EncodedImages, None, None]:
    """Encode pictures chunk by chunk and leave out those that cannot be read.

    Close the iterator to be rid of its threads.

    Args:
        source: Whose pictures are read.
        chunks: Which; each at least one.
        encoder: Encodes them.
        spec: Of the cache.
        batch_size: Pictures per batch.
        pace: Told of every batch.
    """
    threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
    try:
        batches = _decoded(source, encoder, chunks, batch_size, threads, pace)
        for chunk in chunks:
            yield _encode_chunk(len(chunk), batches, encoder, spec, batch_size, pace)
    finally:
        threads.shutdown(cancel_futures=True)


def _encode_chunk(
    count: int,
    batches: Iterator[list[Decoded | Failure]],
    encoder: ImageEncoder,
    spec: CacheSpec,
    batch_size: BatchSize,
    pace: Pace,
) -> EncodedImages:
    """Encode the next `count` pictures."""
    ids: list[str] = []
    failures: list[Failure] = []
    thumbnails = np.empty((count, THUMBNAIL), np.uint8)
    patches = np.empty((count, spec.patches, spec.vision_dim), spec.image_dtype)
    scales = np.empty((count, spec.patches), SCALE_DTYPE) if spec.quantised else None
    cls = np.empty((count, spec.vision_dim), spec.state_dtype)
    while len(ids) + len(failures) < count:
        batch = next(batches)
        good = [one for one in batch if isinstance(one, Decoded)]
        failures += [one for one in batch if isinstance(one, Failure)]
        if good:
            rows = slice(len(ids), len(ids) + len(good))
            ids += [one.image_id for one in good]
            thumbnails[rows] = [one.thumbnail for one in good]
            with pace.on("encoding"):
                of_patches, of_cls = batch_size.encode(encoder, np.stack([o.pixels for o in good]))
                patches[rows], of_scales = stored_patches(of_patches, spec.dtype)
                if scales is not None:
                    scales[rows] = of_scales
                cls[rows] = stored(of_cls, spec.state_dtype.name)
        pace.advance(len(batch), note=f"{len(failures)} unreadable" if failures else "")
    rows = slice(len(ids))
    scales = None if scales is None else scales[rows]
    new = NewImages(ids, thumbnails[rows], patches[rows], cls[rows], scales)
    return EncodedImages(new, failures)


def require_same_pictures(
    source: Source,
    plan: Plan,
    rows: Mapping[str, int],
    encoder: ImageEncoder,
    *,
    cache: Path,
    manifest: Manifest,
) -> None:
    """Compare a few stored pictures with those that the data set has under their ids.

    Args:
        source: Whose pictures are read.
        plan: Names the pictures.
        rows: Row of every stored picture by image id.
        encoder: Fits pictures to the model.
        cache: Folder of the cache.
        manifest: Of the cache.

    Raises:
        CacheMismatchError: if one is another picture.
    """
    known = [image_id for image_id in plan.images if str(image_id) in rows]
    first_rows = np.cumsum([0, *(record.rows for record in manifest.images)])
    count = min(SPOT_CHECKS, len(known))
    for image_id in (known[i * len(known) // count] for i in range(count)):
        row = rows[str(image_id)]
        index = int(np.searchsorted(first_rows, row, side="right")) - 1
        file = open_shard(cache, "images", manifest.images[index])
        before = file.column("thumbnail", np.uint8).reshape(-1, THUMBNAIL)[row - first_rows[index]]
        try:
            now = thumbnail(encoder.pixels(load_rgb(source.picture(image_id))))
        except ImageError:  # it is gone by now, and its features are still good
            continue
        if np.abs(before.astype(int) - now).max() > ANOTHER_PICTURE:
            raise CacheMismatchError(
                f"{source.where(image_id)}: the cache {cache} holds another picture as image "
                f"{str(image_id)!r}. A cache knows pictures by their ids: give this data set "
                f"another --cache."
            )


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 -> (THUMBNAIL,) uint8: mean grey of 8 x 8 fields."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((8, 8), Image.Resampling.BOX)).reshape(-1)


def _decoded(
    source: Source,
    encoder: ImageEncoder,
    chunks: Sequence[Sequence[Id]],
    batch_size: BatchSize,
    threads: ThreadPoolExecutor,
    pace: Pace,
) -> Iterator[list[Decoded | Failure]]:
    """Yield batches of pictures, none across two chunks, one batch being decoded ahead."""

    def decode(image_id: Id) -> Decoded | Failure:
        try:
            with pace.on("reading"):
                pixels = encoder.pixels(load_rgb(source.picture(image_id)))
                return Decoded(str(image_id), pixels, thumbnail(pixels))
        except ImageError as error:
            return Failure(str(image_id), source.where(image_id), str(error))

    def submitted() -> Iterator[list[Future[Decoded | Failure]]]:
        for chunk in chunks:
            first = 0
            while first < len(chunk):
                ids = chunk[first : first + batch_size.now]
                first += len(ids)
                yield [threads.submit(decode, image_id) for image_id in ids]

    batches = submitted()
    ahead = next(batches, None)
    while ahead is not None:
        current, ahead = ahead, next(batches, None)
        with pace.on("waiting"):
            done = [future.result() for future in current]
        yield done


def stored(features: torch.Tensor, dtype: str) -> np.ndarray:
    """Bring features from the encoder's device into memory, in the cache's dtype."""
    return features.to(getattr(torch, dtype)).cpu().numpy()


def stored_patches(features: torch.Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Bring patch embeddings into memory as a cache of this dtype stores them.

    Args:
        features: (images, patches, vision_dim), on the encoder's device.
        dtype: Of the cache.

    Returns:
        The numbers, and for "int8" their scales (images, patches).
    """
    if dtype != "int8":
        return stored(features, dtype), None
    # What leaves the device is as narrow as it was; one by one they fit the processor's cache.
    integers, scales = zip(
        *(quantise(stored(one, "float32")) for one in features.cpu()), strict=True
    )
    return np.stack(integers), np.stack(scales)
