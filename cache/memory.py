"""Features in this process's own memory: aligned buffers, and all pictures of a cache."""

import mmap
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from frozen_vqa.cache.disk.copy_threads import CopyThreads
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.reader import FeatureCache

AT_ONCE = 256
"""Pictures that are read together while the memory is filled."""

HUGE_PAGE = 2 << 20
"""Bytes of a huge page of x86, and of ARM with its usual 4 KiB pages."""


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return zeros that begin at a page, or at a huge page if they fill one.

    Some CPUs copy 5 times slower to numpy's usual place, 16 bytes past a page. Rows were copied
    between huge pages at 1.3 times the speed of pages of 4 KiB.
    """
    count = int(np.prod(shape))
    nbytes = count * dtype.itemsize
    align = HUGE_PAGE if nbytes >= HUGE_PAGE else mmap.PAGESIZE
    # Private, because shared memory has huge pages only if an administrator allows them.
    pages = mmap.mmap(-1, nbytes + align, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if align == HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel built without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    first = -np.frombuffer(pages, np.uint8).ctypes.data % align
    return np.frombuffer(pages, dtype, count, first).reshape(shape)


class ResidentImages:
    """All patch embeddings of a cache in memory; raises `CacheDamagedError` if one is damaged."""

    def __init__(self, cache: FeatureCache) -> None:
        spec, images = cache.spec, cache.manifest.image_rows
        self._threads = CopyThreads()
        self.rows = aligned_empty((images, spec.patches, spec.vision_dim), spec.image_dtype)
        self.scales = np.empty((images, *spec.scales), SCALE_DTYPE) if spec.quantised else None
        for part in cache.pieces(AT_ONCE):
            scales = None if self.scales is None else self.scales[part]
            cache.read_images(np.arange(part.start, part.stop), self.rows[part], scales)

    def read_images(
        self, rows: np.ndarray, out: np.ndarray, scales: np.ndarray | None = None
    ) -> None:
        """Do the same as `FeatureCache.read_images`."""
        if scales is None and self.scales is not None:
            raise ValueError("integers of an int8 cache need their scales")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.rows):
            raise IndexError(f"image row outside 0..{len(self.rows) - 1}")

        def take(places: Sequence[int]) -> None:
            # The rows are checked above; numpy's own check would copy through a buffer.
            part = slice(places[0], places[-1] + 1)
            np.take(self.rows, rows[part], axis=0, out=out[part], mode="clip")

        if len(rows):
            self._threads.each(take, range(len(rows)), nbytes=out.nbytes)
        if scales is not None and self.scales is not None:
            np.take(self.scales, rows, axis=0, out=scales, mode="clip")
