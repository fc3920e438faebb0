"""Stage one's pictures: decoded by threads, encoded in batches, a shard at a time."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cache import CacheMismatchError, CacheSpec, Failure, Manifest
from cache.quantise import quantise
from cache.reader import open_shard
from cache.shards import THUMBNAIL, NewImages
from cache.spec import SCALE_DTYPE
from pipeline.display import Advance
from pipeline.encoders import ImageEncoder
from pipeline.errors import ImageError, ModelError
from pipeline.examples import Id, Source
from pipeline.images import load_rgb
from pipeline.plan import Plan

DECODERS = 4
"""Threads that read and resize pictures while the encoder works."""

SPOT_CHECKS = 8
ANOTHER_PICTURE = 16
"""Grey levels of 255; decoders of one picture differ by one or two in a thumbnail."""


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
    image_ids: Sequence[Id],
    encoder: ImageEncoder,
    spec: CacheSpec,
    *,
    batch_size: int,
    advance: Advance,
) -> EncodedImages:
    """Encode some pictures and leave out those that cannot be read.

    Args:
        source: Whose pictures are read.
        image_ids: Which; at least one.
        encoder: Encodes them.
        spec: Of the cache.
        batch_size: Pictures per batch; halved when a GPU's memory does not suffice.
        advance: Told of every batch.
    """
    ids: list[str] = []
    failures: list[Failure] = []
    thumbnails = [np.empty((0, THUMBNAIL), np.uint8)]
    patches = [np.empty((0, spec.patches, spec.vision_dim), spec.image_dtype)]
    scales = [np.empty((0, spec.patches), SCALE_DTYPE)]
    cls = [np.empty((0, spec.vision_dim), spec.state_dtype)]
    for batch in _decoded(source, encoder, image_ids, batch_size):
        pixels = []
        for image_id, found in batch:
            if isinstance(found, ImageError):
                failures.append(Failure(str(image_id), source.where(image_id), str(found)))
            else:
                ids.append(str(image_id))
                pixels.append(found)
        if pixels:
            thumbnails.append(np.stack([thumbnail(one) for one in pixels]))
            batch_patches, batch_cls = _encode(encoder, np.stack(pixels))
            numbers, batch_scales = stored_patches(batch_patches, spec.dtype)
            patches.append(numbers)
            scales += [] if batch_scales is None else [batch_scales]
            cls.append(stored(batch_cls, spec.state_dtype.name))
        advance(len(batch), note=f"{len(failures)} unreadable" if failures else "")
    new = NewImages(
        ids,
        np.concatenate(thumbnails),
        np.concatenate(patches),
        np.concatenate(cls),
        np.concatenate(scales) if spec.quantised else None,
    )
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


Decoded = list[tuple[Id, np.ndarray | ImageError]]
"""A batch of pictures: pixels, or what went wrong."""


def _decoded(
    source: Source, encoder: ImageEncoder, image_ids: Sequence[Id], batch_size: int
) -> Iterator[Decoded]:
    """Yield batches of pictures, one batch being decoded ahead."""

    def decode(image_id: Id) -> np.ndarray | ImageError:
        try:
            return encoder.pixels(load_rgb(source.picture(image_id)))
        except ImageError as error:
            return error

    with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as threads:

        def submit(batch: Sequence[Id]) -> list[tuple[Id, Future]]:
            return [(image_id, threads.submit(decode, image_id)) for image_id in batch]

        batches = [
            image_ids[first : first + batch_size] for first in range(0, len(image_ids), batch_size)
        ]
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


def stored_patches(features: torch.Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Bring patch embeddings into memory as a cache of this dtype stores them.

    Args:
        features: (..., vision_dim), on the encoder's device.
        dtype: Of the cache.

    Returns:
        The numbers, and for "int8" their scales (...).
    """
    if dtype != "int8":
        return stored(features, dtype), None
    return quantise(stored(features.cpu(), "float32"))  # what crosses is as narrow as it was
