"""How many pictures the image encoder gets at once.

The batch size can change a feature's last bit, because GPU libraries choose the order of a sum by
shape. So it is chosen once for a new cache, and the record of each shard keeps it. An extraction
that extends the cache, or makes a shard again, uses the recorded size.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from frozen_vqa.cache import Manifest
from frozen_vqa.cache.format.records.files import ShardRecord
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.errors import ModelError, SourceError, unless_out_of_memory
from frozen_vqa.pipeline.extract.origin import LARGEST_BATCH

CPU_BATCH, GPU_BATCH = 32, 128
"""On a CPU, DINOv2-small takes the same time per picture in batches of 8 to 64, within 4 %."""

PROBED = (16, 32, 64, 128, 256)
GAIN = 0.95
"""A larger batch needs memory, so it must take at most this share of the time per picture."""


def default_batch_size(device: torch.device | str) -> int:
    """Return the batch size for a device if nothing is recorded or measured."""
    return CPU_BATCH if torch.device(device).type == "cpu" else GPU_BATCH


def recorded_batch_size(record: ShardRecord, device: torch.device | str) -> int:
    """Return the batch size of a shard; the default if its record has none or an absurd one."""
    value = record.origin.get("batch_size")  # anybody can write a manifest
    if value and 1 <= value <= LARGEST_BATCH:
        return int(value)
    return default_batch_size(device)


def choose_batch_size(
    encoder: ImageEncoder, manifest: Manifest, pixels: Callable[[], np.ndarray]
) -> int:
    """Return the batch size of a cache if the user has not given one; a recorded one is kept.

    `pixels` returns a picture to measure with, (side, side, 3) uint8, or raises `SourceError`. It
    is called for a new cache on a GPU; on a CPU the size hardly matters.
    """
    if manifest.images:
        return recorded_batch_size(manifest.images[-1], encoder.device)
    if torch.device(encoder.device).type == "cpu":
        return CPU_BATCH
    try:
        return _probe(encoder, pixels())
    except SourceError:
        return GPU_BATCH


def _probe(encoder: ImageEncoder, picture: np.ndarray) -> int:
    """Return the smallest batch size that is nearly as fast per picture as the fastest."""
    best, fastest = PROBED[0], float("inf")
    for size in PROBED:
        batch = np.stack([picture] * size)
        seconds = unless_out_of_memory(partial(_time, encoder, batch))
        if seconds is None:
            break
        if seconds < GAIN * fastest:
            best, fastest = size, seconds
    return best


def _time(encoder: ImageEncoder, batch: np.ndarray) -> float:
    """Return the seconds for one picture of a batch, the least of three times."""

    def once() -> float:
        started = time.perf_counter()
        encoder.encode(batch)[0].cpu()
        return time.perf_counter() - started

    return min(once() for _ in range(3)) / len(batch)


class BatchSize:
    """The batch size of one run: `now` is halved for good when memory runs out."""

    def __init__(self, pictures: int) -> None:
        self.now = pictures

    def encode(
        self, encoder: ImageEncoder, pixels: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode pixels, (images, side, side, 3) uint8, at most `now` pictures at once.

        Returns:
            Patch embeddings (images, patches, dim) and CLS (images, dim).

        Raises:
            ModelError: if the device's memory does not suffice for one.
        """
        parts: list[tuple[torch.Tensor, torch.Tensor]] = []
        done = 0
        while done < len(pixels):
            part = pixels[done : done + self.now]
            found = unless_out_of_memory(partial(encoder.encode, part))
            if found is not None:
                parts.append(found)
                done += len(part)
                continue
            if len(part) == 1:
                raise ModelError(
                    f"{encoder.name}: one picture of {encoder.image_size} pixels does not fit the "
                    f"memory of {encoder.device}; use a smaller --image-size or another --device"
                )
            while self.now >= len(part):
                self.now //= 2
        if len(parts) == 1:
            return parts[0]
        patches, cls = zip(*parts, strict=True)
        return torch.cat(patches), torch.cat(cls)
