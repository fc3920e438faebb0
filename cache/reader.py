"""Stage two's side of the cache: rows at memory speed, each checked when first touched.

Image shards are mapped, not read: their rows are contiguous and unfiltered, so one copy brings a
row from the page cache into the batch. Where a file system has no maps, rows are read by offset.
Hidden states are few after prefix sharing and stay in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from frozen_vqa.cache.copiers import Copiers
from frozen_vqa.cache.errors import CacheDamagedError, CacheError, quoted, remedy
from frozen_vqa.cache.files import row_digest
from frozen_vqa.cache.manifest import load_manifest
from frozen_vqa.cache.opening import open_shard, read_names, read_table, require_sizes
from frozen_vqa.cache.questions import Questions, read_questions
from frozen_vqa.cache.rows import FileRows
from frozen_vqa.cache.spec import SCALE_DTYPE
from frozen_vqa.cache.splits import SplitTable


@dataclass
class _MappedShard:
    """One mapped image shard; `checked` marks the rows whose digest has been compared."""

    file: str
    rows: np.ndarray | FileRows
    scales: np.ndarray | None
    digests: np.ndarray
    checked: np.ndarray


class FeatureCache:
    """A cache opened for reading.

    Args:
        directory: What `extract-features --cache` was given.

    Raises:
        CacheError: if there is no cache there.
        CacheDamagedError: here and from every method, if bytes are not those that were written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = load_manifest(directory)
        require_sizes(directory, self.manifest.files)
        self.spec = self.manifest.spec
        self._first_rows = np.cumsum([0, *(record.rows for record in self.manifest.images)])
        self._shards: dict[int, _MappedShard] = {}
        self._copiers = Copiers()

    def split(self, name: str) -> SplitTable:
        """Return the table of a split."""
        record = self.manifest.splits.get(name)
        if record is None:
            there = ", ".join(self.manifest.splits) or "none"
            raise CacheError(
                f"{self.directory}: there is no split {name!r} in this cache (splits: {there}). "
                f"Add it with `frozen-vqa extract-features --cache {quoted(self.directory)} "
                f"--split {name} ...`."
            )
        table = read_table(self.directory, record)
        limits = (self.manifest.image_rows, self.manifest.question_rows)
        for rows, limit in zip((table.image_rows, table.question_rows), limits, strict=True):
            if len(rows) and not 0 <= rows.min() <= rows.max() < limit:
                raise CacheDamagedError(f"{self.directory / record.file}: points outside the cache")
        return table

    @cached_property
    def questions(self) -> Questions:
        """All distinct questions, read and checked once."""
        return read_questions(self.directory, self.manifest)

    def read_images(
        self, rows: np.ndarray, out: np.ndarray, scales: np.ndarray | None = None
    ) -> None:
        """Copy patch embeddings of pictures into `out`, checking each on its first touch.

        Args:
            rows: (n,) rows of pictures, in any order.
            out: (n, patches, vision_dim) in the image dtype of the cache. A page-aligned buffer is
                several times faster than an array fresh from numpy.
            scales: (n, patches) float16, for an int8 cache: by what its integers are multiplied.
        """
        if scales is None and self.spec.quantised:
            raise ValueError(f"{self.directory}: integers of an int8 cache need their scales")
        shards = (np.searchsorted(self._first_rows, rows, side="right") - 1).tolist()
        work: list[tuple[_MappedShard, int, np.ndarray]] = []
        for place, (row, index) in enumerate(zip(rows.tolist(), shards, strict=True)):
            shard = self._shards.get(index) or self._open(index)
            local = row - int(self._first_rows[index])
            if scales is not None and shard.scales is not None:
                scales[place] = shard.scales[local]  # checked with the shard's structure
            work.append((shard, local, out[place]))
        self._copiers.each(self._copy, work, worth=out.nbytes)

    def _copy(self, rows: Sequence[tuple[_MappedShard, int, np.ndarray]]) -> None:
        for shard, local, out in rows:
            if shard.checked[local]:
                np.copyto(out, shard.rows[local])
            else:
                self._copy_checked(shard, local, out)

    def _copy_checked(self, shard: _MappedShard, local: int, out: np.ndarray) -> None:
        source = shard.rows[local]
        np.copyto(out, source)
        # The copy is still in the processor's cache, and it is what the caller gets.
        handed = out if out.dtype == source.dtype and out.flags.c_contiguous else source
        if row_digest(handed) != shard.digests[local]:
            raise CacheDamagedError(
                f"{self.directory / shard.file}: row {local} differs from its digest, so it is "
                f"not what was written. {remedy(self.directory)}"
            )
        shard.checked[local] = True

    def image_ids(self) -> list[str]:
        """Return the id of every picture, by row."""
        return read_names(self.directory, self.manifest, "images")

    def _open(self, index: int) -> _MappedShard:
        if not 0 <= index < len(self.manifest.images):
            raise IndexError(f"image row outside 0..{self.manifest.image_rows - 1}")
        record = self.manifest.images[index]
        file = open_shard(self.directory, "images", record)
        shape = (record.rows, self.spec.patches, self.spec.vision_dim)
        rows: np.ndarray | FileRows
        rows = file.array("patch_embeddings", shape, self.spec.image_dtype)
        scales = file.array("patch_scales", shape[:2], SCALE_DTYPE) if self.spec.quantised else None
        digests = file.array("patch_embeddings_xxh3", shape[:1], np.dtype(np.uint64))
        if not file.mapped:  # the whole shard is in memory: keep what is small
            offset = file.layout["patch_embeddings"].offset
            rows = FileRows(file.path, offset, shape, self.spec.image_dtype)
            scales, digests = None if scales is None else scales.copy(), digests.copy()
        shard = _MappedShard(record.file, rows, scales, digests, np.zeros(record.rows, dtype=bool))
        self._shards[index] = shard
        return shard
