"""Our own contenders, and the ceilings: copies of the same rows that no reader can beat."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import aligned
from benchmarks.loader.contenders import BATCH, ROW_SHAPE, Line, Read, whole
from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.format.spec import DTYPES, SCALE_DTYPE
from frozen_vqa.cache.memory import ResidentImages

Copy = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def cache_name(dtype: str) -> str:
    """Return the folder of the cache that holds the rows in this dtype."""
    return f"cache-{dtype}"


def _read_once(path: Path) -> tuple[FeatureCache, np.ndarray]:
    """Open a cache and bring every row over its first, checked touch; return a buffer too."""
    cache = FeatureCache(path)
    out = aligned((BATCH, cache.spec.patches, cache.spec.vision_dim), cache.spec.image_dtype)
    scales = _scales(cache)
    for first in range(0, cache.manifest.image_rows, BATCH):
        rows = np.arange(first, min(first + BATCH, cache.manifest.image_rows))
        few = None if scales is None else scales[: len(rows)]
        cache.read_images(rows, out[: len(rows)], few)
    return cache, out


def _scales(cache: FeatureCache) -> np.ndarray | None:
    return np.empty((BATCH, cache.spec.patches), SCALE_DTYPE) if cache.spec.quantised else None


def ours_mapped(path: Path) -> Read:
    """Read from the mapped cache into a buffer that is used again."""
    cache, out = _read_once(path)
    return _reading(cache, out, cache)


def ours_resident(path: Path) -> Read:
    """Read from a copy of all rows in memory."""
    cache, out = _read_once(path)
    return _reading(ResidentImages(cache), out, cache)


def _reading(images: FeatureCache | ResidentImages, out: np.ndarray, cache: FeatureCache) -> Read:
    scales = _scales(cache)

    def get(rows: np.ndarray) -> np.ndarray:
        images.read_images(rows, out, scales)
        return out

    return whole(get)


def ours_batches(path: Path) -> Read:
    """Read whole training batches, questions included, made ahead by the background thread."""
    import torch

    from frozen_vqa.pipeline.batches.plan import BatchPlan
    from frozen_vqa.pipeline.batches.reader import BatchReader
    from frozen_vqa.pipeline.batches.residency import ResidentFeatures

    cache, _ = _read_once(path)
    split = cache.split("train")
    reader = BatchReader(ResidentFeatures(cache, device=torch.device("cpu")), split)
    place = np.full(cache.manifest.image_rows, -1)
    place[split.image_rows] = np.arange(len(split))  # there is one question to a picture

    def read(rows: np.ndarray) -> Iterator[Any]:
        questions = place[rows]
        questions = questions[questions >= 0]
        each = np.arange(len(questions))
        edges = np.append(each[::BATCH], len(questions))
        cut = np.stack([edges[:-1], edges[1:]], axis=1)
        for batch in reader.batches(BatchPlan(questions, each, np.ones_like(each), cut)):
            (part,) = batch.parts
            assert part.patch_embeddings is not None
            yield part.patch_embeddings[: len(part.questions)]

    return read


def row_by_row(source: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy each row by itself."""
    for place, row in zip(out, rows, strict=True):
        np.copyto(place, source[row])


def taken(source: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy all rows with one call."""
    # The default mode, "raise", goes through a second buffer.
    np.take(source, rows, axis=0, out=out, mode="clip")


def _gathered(copy: Copy, source: np.ndarray, out: np.ndarray, rows: np.ndarray) -> np.ndarray:
    copy(source, rows, out)
    return out


def anonymous(copy: Copy, path: Path) -> Read:
    """Copy rows out of memory that no file backs."""
    stored = np.fromfile(path, np.float16).reshape(-1, *ROW_SHAPE)
    source = aligned(stored.shape, np.float16)
    source[:] = stored
    return whole(partial(_gathered, copy, source, aligned((BATCH, *ROW_SHAPE), np.float16)))


def mapped(copy: Copy, path: Path) -> Read:
    """Copy rows out of a mapped file of nothing but rows, or .npy."""
    if path.suffix == ".npy":
        source = np.load(path, mmap_mode="r")
    else:
        source = np.memmap(path, np.float16, "r").reshape(-1, *ROW_SHAPE)
    out = aligned((BATCH, *ROW_SHAPE), np.float16)
    # A plain array: each index into a memmap makes another memmap, at ten times the price.
    return whole(partial(_gathered, copy, np.asarray(source), out))


FLAT = "rows.bin"
COPIES: dict[str, Copy] = {"row by row": row_by_row, "np.take": taken}
MAPPED, RESIDENT, BATCHES = "mapped", "resident", "whole batches, in the background"
SETTINGS = {MAPPED: ours_mapped, RESIDENT: ours_resident, BATCHES: ours_batches}


def our_name(dtype: str) -> str:
    """Return what the lines of a dtype are called."""
    return f"ours, {dtype}"


OURS = [
    Line(
        our_name(dtype),
        setting,
        cache_name(dtype),
        open,
        quick=True,
        own_order=setting == BATCHES,
    )
    for dtype in DTYPES
    for setting, open in SETTINGS.items()
]
C1, C2 = "C1, anonymous memory", "C2, mapped flat file"
CEILINGS = [
    Line(name, how, FLAT, partial(open, copy), quick=True)
    for name, open in ((C1, anonymous), (C2, mapped))
    for how, copy in COPIES.items()
]
