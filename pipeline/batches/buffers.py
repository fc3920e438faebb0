"""Room for the pictures of batches, which one reader after the other uses again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache import CacheSpec
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.memory import aligned_empty


@dataclass
class Buffer:
    """Room for the pictures of one batch; the event tells when a GPU has copied them."""

    patches: Tensor
    scales: Tensor | None
    copied: torch.cuda.Event | None = None


class BufferPool:
    """Lends buffers, so that training and validation need them only once.

    A GPU copies from pinned memory. The buffers are empty unless the pool `holds_patches`.
    """

    def __init__(self, spec: CacheSpec, device: torch.device, *, holds_patches: bool) -> None:
        self._spec, self._device, self._holds_patches = spec, device, holds_patches
        self._free: list[Buffer] = []

    @contextmanager
    def lend(self, count: int, *, images: int) -> Iterator[list[Buffer]]:
        """Lend buffers for so many batches of so many pictures.

        A second borrower at the same time gets buffers of its own.
        """
        buffers, self._free = self._free, []
        if not buffers or len(buffers[0].patches) < images:
            buffers.clear()  # before there are larger ones
            buffers = [self._make(images) for _ in range(count)]
        try:
            yield buffers
        finally:
            self._free = buffers

    def _make(self, images: int) -> Buffer:
        spec = self._spec
        shape = (images if self._holds_patches else 0, spec.patches, spec.vision_dim)
        patches = self._allocate(shape, spec.image_dtype)
        scales = self._allocate(shape[:2], np.dtype(SCALE_DTYPE)) if spec.quantised else None
        return Buffer(patches, scales)

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
        if self._device.type == "cpu":
            return torch.from_numpy(aligned_empty(shape, dtype))
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(shape, dtype=kind, pin_memory=True)
