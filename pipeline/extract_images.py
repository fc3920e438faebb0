"""Stage one's pictures: decoded by threads, encoded in batches, stored shard by shard."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from cache import CacheWriter, Failure
from pipeline.display import Advance, progress
from pipeline.encoders import ImageEncoder
from pipeline.errors import ImageError, ModelError
from pipeline.examples import Id, Source
from pipeline.images import load_rgb
from pipeline.plan import Plan

DECODERS = 4
"""Threads that read and resize pictures while the encoder works."""


def extract_images(
    source: Source,
    plan: Plan,
    writer: CacheWriter,
    encoder: ImageEncoder,
    rows_by_id: Mapping[str, int],
    *,
    batch_size: int,
    shard_bytes: int,
) -> int:
    """Encode the pictures that the cache lacks; return how many were encoded.

    Args:
        source: Whose pictures are read.
        plan: Names the pictures.
        writer: Of the cache, open.
        encoder: Encodes them.
        rows_by_id: Rows of the pictures that the cache has.
        batch_size: Pictures per batch; halved when a GPU's memory does not suffice.
        shard_bytes: Features per shard.
    """
    missing = [image_id for image_id in plan.images if str(image_id) not in rows_by_id]
    if not missing:
        return 0
    # Pictures that failed before come last: the shards of the others must not depend on them.
    failed = {failure.image_id for failure in writer.manifest.failures}
    rows = max(1, shard_bytes // writer.manifest.spec.image_row_bytes)
    shards = [
        chunk
        for again in (False, True)
        for chunk in _chunks([i for i in missing if (str(i) in failed) == again], rows)
    ]
    encoded = 0
    with (
        ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as threads,
        progress("images", len(missing)) as advance,
    ):
        for shard in shards:
            batches = _decoded(source, encoder, shard, batch_size, threads)
            encoded += _add_shard(source, writer, encoder, batches, advance)
    return encoded


Decoded = list[tuple[Id, np.ndarray | ImageError]]
"""A batch of pictures: pixels, or what went wrong."""


def _add_shard(
    source: Source,
    writer: CacheWriter,
    encoder: ImageEncoder,
    batches: Iterator[Decoded],
    advance: Advance,
) -> int:
    """Encode one shard and store it with its failures; return how many pictures it has."""
    spec = writer.manifest.spec
    ids: list[str] = []
    failures: list[Failure] = []
    patches = [np.empty((0, spec.patches, spec.vision_dim), spec.dtype)]
    cls = [np.empty((0, spec.vision_dim), spec.dtype)]
    for batch in batches:
        pixels = []
        for image_id, found in batch:
            if isinstance(found, ImageError):
                failures.append(Failure(str(image_id), source.where(image_id), str(found)))
            else:
                ids.append(str(image_id))
                pixels.append(found)
        if pixels:
            batch_patches, batch_cls = _encode(encoder, np.stack(pixels))
            patches.append(stored(batch_patches, spec.dtype))
            cls.append(stored(batch_cls, spec.dtype))
        advance(len(batch), note=f"{len(failures)} unreadable" if failures else "")
    writer.add_images(ids, np.concatenate(patches), np.concatenate(cls), failures=failures)
    return len(ids)


def _chunks(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), count):
        yield items[first : first + count]


def _decoded(
    source: Source,
    encoder: ImageEncoder,
    shard: Sequence[Id],
    batch_size: int,
    threads: ThreadPoolExecutor,
) -> Iterator[Decoded]:
    """Yield batches of pictures, one batch being decoded ahead."""

    def decode(image_id: Id) -> np.ndarray | ImageError:
        try:
            return encoder.pixels(load_rgb(source.picture(image_id)))
        except ImageError as error:
            return error

    def submit(batch: Sequence[Id]) -> list[tuple[Id, Future]]:
        return [(image_id, threads.submit(decode, image_id)) for image_id in batch]

    batches = list(_chunks(shard, batch_size))
    ahead = submit(batches[0])
    for following in [*batches[1:], ()]:
        current, ahead = ahead, submit(following)
        yield [(image_id, future.result()) for image_id, future in current]


def _encode(encoder: ImageEncoder, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode a batch, in halves if the device's memory does not suffice."""
    try:
        return encoder.encode(pixels)
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise ModelError(
                f"{encoder.name}: one picture of {encoder.image_size} pixels does not fit the "
                f"memory of {encoder.device}; use --device cpu or a smaller --image-size"
            ) from None
    # Outside the except block, whose traceback keeps the failed batch's tensors alive.
    half = len(pixels) // 2
    parts = [_encode(encoder, part) for part in (pixels[:half], pixels[half:])]
    return torch.cat([parts[0][0], parts[1][0]]), torch.cat([parts[0][1], parts[1][1]])


def stored(features: torch.Tensor, dtype: str) -> np.ndarray:
    """Bring features from the encoder's device into memory, in the cache's dtype."""
    return features.to(getattr(torch, dtype)).cpu().numpy()
