"""Where the features of a cache are while a head trains: on the GPU, in memory, or mapped.

    gpu      uploaded once; each batch gathers its rows there
    ram      copied into this process's memory once
    mapped   left to the operating system's page cache, and read when a batch needs them
    unread   nowhere, because no head sees a picture

Hidden states are few after prefix sharing, and always in memory. Batches are read into buffers,
which the readers reuse in turn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache import CacheSpec, FeatureCache
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.memory import ResidentImages, aligned_empty
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.system.console import size
from frozen_vqa.pipeline.system.device import free_memory
from frozen_vqa.pipeline.system.pinned import pinned_empty
from frozen_vqa.pipeline.system.ranks import local_ranks
from frozen_vqa.pipeline.system.tensors import as_array, as_tensor, torch_dtype

Residency = Literal["auto", "gpu", "ram", "mapped"]
Location = Literal["gpu", "ram", "mapped", "unread"]

GPU_SHARE = 0.7
"""Share of a GPU's free memory that features may take at most; the rest is for training."""

WORTH_A_COPY = 1 << 30
"""Bytes up to which "auto" copies the pictures into memory. Rows of a small cache are small, and
one gather of all is faster than a copy of each. Larger rows are as fast from the page cache, which
holds them anyway and gives them back when memory is short."""

UPLOADED_AT_ONCE = 256


def choose_location(
    asked: Residency, *, need: int, free: int | None, free_on_gpu: int | None, steps: int = 0
) -> Location:
    """Return where patch embeddings of `need` bytes go.

    `free` is None where it is not known, and `free_on_gpu` is None without a GPU. `steps` is what
    the steps of a training take of a GPU.

    Raises:
        ConfigError: if they do not fit where the user wants them.
    """
    room = 0 if free_on_gpu is None else min(int(GPU_SHARE * free_on_gpu), free_on_gpu - steps)
    fits_gpu = free_on_gpu is not None and need <= room
    if asked == "auto":
        if fits_gpu:
            return "gpu"
        return "ram" if need <= min(WORTH_A_COPY, (free or 0) // 4) else "mapped"
    if asked == "gpu" and not fits_gpu:
        found = "there is no GPU" if free_on_gpu is None else f"{size(free_on_gpu)} are free there"
        raise ConfigError(
            f"residency is 'gpu', but {found} and the features take {size(need)}, which may be "
            f"{size(max(0, room))} beside the training; use 'mapped', a smaller --batch-size, or "
            f"an int8 cache (convert-cache)"
        )
    if asked == "ram" and free is not None and need > free:
        raise ConfigError(
            f"residency is 'ram', but the features take {size(need)} and {size(free)} of memory "
            f"are free; use 'mapped', which needs none of its own"
        )
    return asked


@dataclass
class Buffer:
    """Room for the pictures of one batch; the event tells when a GPU has copied them."""

    patches: Tensor
    scales: Tensor | None
    copied: torch.cuda.Event | None = None


class BufferPool:
    """Lends buffers, so that training and validation need them only once.

    CUDA copies from pinned memory. The buffers are empty unless the pool `holds_patches`.
    """

    def __init__(self, spec: CacheSpec, device: torch.device, *, holds_patches: bool) -> None:
        self._spec, self._device, self._holds_patches = spec, device, holds_patches
        self._free: list[Buffer] = []

    @contextmanager
    def lend(self, count: int, *, images: int) -> Iterator[list[Buffer]]:
        """Lend buffers for `count` batches of `images` pictures; a second borrower gets its own."""
        buffers, self._free = self._free, []
        if not buffers or len(buffers[0].patches) < images:
            buffers.clear()  # before there are larger ones
            buffers = [self.make(images) for _ in range(count)]
        try:
            yield buffers
        finally:
            self._free = buffers

    def make(self, images: int) -> Buffer:
        """Return room for a batch of pictures that nobody else will use."""
        spec = self._spec
        shape = (images if self._holds_patches else 0, spec.patches, spec.vision_dim)
        patches = self._allocate(shape, spec.image_dtype)
        room = (shape[0], *spec.scales)
        scales = self._allocate(room, SCALE_DTYPE) if spec.quantised else None
        return Buffer(patches, scales)

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
        if self._device.type != "cuda":
            return as_tensor(aligned_empty(shape, dtype))
        return pinned_empty(shape, torch_dtype(dtype))


class ResidentFeatures:
    """A cache's features, where batches are read from; without `pictures` those of the text alone.

    `steps` is how many bytes of a GPU the steps of a training will take.

    Raises:
        CacheDamagedError: if a row differs from its digest; with "mapped" only its reading raises.
        ConfigError: if the features do not fit in the chosen place.
    """

    def __init__(
        self,
        cache: FeatureCache,
        *,
        residency: Residency = "mapped",
        device: torch.device,
        pictures: bool = True,
        steps: int = 0,
    ) -> None:
        self.cache, self.device, self.questions = cache, device, cache.questions
        self.images: FeatureCache | ResidentImages = cache
        self.on_gpu: Tensor | None = None
        self.scales_on_gpu: Tensor | None = None
        spec = cache.spec
        row = spec.patches * spec.vision_dim * spec.image_dtype.itemsize
        self.need, self.free = cache.manifest.image_rows * row, free_memory()
        if self.free is not None:
            self.free //= local_ranks()  # each may want a copy
        self.free_on_gpu = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        self.location: Location = "unread"
        if pictures:
            self.location = choose_location(
                residency,
                need=self.need,
                free=self.free,
                free_on_gpu=self.free_on_gpu,
                steps=steps,
            )
        self.read_by_batch = self.location in ("ram", "mapped")
        self.buffers = BufferPool(spec, device, holds_patches=self.read_by_batch)
        if self.location == "ram":
            self.images = ResidentImages(cache)
        elif self.location == "gpu":
            self._upload()

    @cached_property
    def copies(self) -> torch.cuda.Stream:
        """The stream on which batches are copied: one for all epochs, or each would keep memory."""
        return torch.cuda.Stream(self.device)

    def keep(self, rows: np.ndarray) -> None:
        """Begin to bring the pictures that each epoch reads, by their rows in the cache.

        Raise `CacheError` if the disk has no room for them. Only a mapped cache at a URL needs it.
        """
        if self.location == "mapped" and self.cache.arrivals:
            self.cache.expect(rows, together=True)

    def describe(self) -> str:
        """Return one line: where the features are, and how much room there was."""
        places = {"gpu": f"on {self.device}", "ram": "in memory", "unread": "not read"}
        where = places.get(self.location, self.location)
        room = [] if self.free is None else [f"{size(self.free)} of memory"]
        room += [] if self.free_on_gpu is None else [f"{size(self.free_on_gpu)} of the GPU's"]
        return (
            f"features: {size(self.need)} of pictures {where}, "
            f"{size(self.questions.hidden_states.nbytes)} of hidden states in memory"
            + (f" ({' and '.join(room)} were free)" if room else "")
        )

    def _upload(self) -> None:
        """Copy all patch embeddings to the GPU, through a buffer."""
        spec, images = self.cache.spec, self.cache.manifest.image_rows
        dtype = torch_dtype(spec.image_dtype)
        shape = (spec.patches, spec.vision_dim)
        table = torch.empty((images, *shape), dtype=dtype, device=self.device)
        scales = torch.empty((images, *spec.scales), dtype=torch.float16, device=self.device)
        buffer = pinned_empty((UPLOADED_AT_ONCE, *shape), dtype)
        few = torch.empty((UPLOADED_AT_ONCE, *spec.scales), dtype=torch.float16)
        for part in self.cache.pieces(UPLOADED_AT_ONCE):
            rows = np.arange(part.start, part.stop)
            count = len(rows)
            self.cache.read_images(rows, as_array(buffer[:count]), few[:count].numpy())
            table[part].copy_(buffer[:count])
            scales[part].copy_(few[:count])
        self.on_gpu, self.scales_on_gpu = table, scales if spec.quantised else None
