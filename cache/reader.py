"""Stage two's side of the cache: rows at memory speed, each checked when first read.

Image shards are mapped, not read: their rows are contiguous and unfiltered, so one copy brings a
row from the page cache into the batch. Where a file system has no maps, rows are read by offset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.cache.arrivals import arrivals_of, register, shown
from frozen_vqa.cache.disk.copy_threads import CopyThreads
from frozen_vqa.cache.disk.file_rows import FileRows
from frozen_vqa.cache.disk.integrity import (
    load_manifest,
    open_shard,
    read_table,
    require_all_sizes,
)
from frozen_vqa.cache.disk.row_names import IdsByRow
from frozen_vqa.cache.errors import (
    CacheDamagedError,
    CacheError,
    damaged_row,
    quoted_cache,
    unusable_row,
)
from frozen_vqa.cache.format.digests import row_digest
from frozen_vqa.cache.format.finite import unusable_rows
from frozen_vqa.cache.format.parts import Columns, columns, find_parts
from frozen_vqa.cache.format.records.files import SplitRecord
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.format.splits import SplitTable
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.questions import Questions, read_questions
from frozen_vqa.cache.stores.address import is_url


@dataclass
class _OpenShard:
    """One image shard; `checked` marks the rows whose digest has been compared."""

    path: Path
    rows: np.ndarray | FileRows
    scales: np.ndarray | None
    digests: np.ndarray
    checked: np.ndarray


class FeatureCache:
    """A cache opened for reading; `directory` is what `extract-features --cache` was given.

    It may also be a URL: then shards come to a folder of this machine when they are needed.
    `name` is what messages call it, a folder or a URL. `spec` says what is read: all parts of its
    features, or those that were picked.

    Raises:
        CacheError: if there is no cache there.
        CacheDamagedError: from every method, if bytes are not those that were written.
    """

    def __init__(self, directory: Path | str) -> None:
        if is_url(directory):
            from frozen_vqa.cache.stores.stage import open_stage

            directory = open_stage(str(directory))
        self.directory = Path(directory)
        self.manifest = load_manifest(self.directory)
        if not arrivals_of(self.directory):
            require_all_sizes(self.directory, self.manifest)
        self._picked: tuple[Sequence[int], Sequence[int]] | None = None
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process opens the same cache by; features stay in their files."""
        state = {"directory": self.directory, "manifest": self.manifest}
        return state | {"_picked": self._picked, "_arrivals": self.arrivals}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open it by the same manifest, so that a file that was replaced since is refused."""
        self.__dict__ |= state
        if state["_arrivals"]:
            register(self.directory, state["_arrivals"])
        self._begin()

    def pick(self, vision: str = "", text_layer: str = "") -> "FeatureCache":
        """Return the same cache with some parts of its features alone, such as "dinov2-base@-5".

        Several are joined by "+", and come in the order of the cache; "" is all of them.

        Raises:
            CacheError: if there is no such part.
        """
        spec, here = self.manifest.spec, self.name
        eyes, words = spec.vision_parts, spec.text_parts
        layers = [str(part.layer) for part in words]
        return self.take(
            find_parts(vision, eyes, spec.layers, f"{here}: patch embeddings"),
            find_parts(text_layer, words, spec.layers, f"{here}: hidden states", layers),
        )

    def take(self, vision: Sequence[int], text: Sequence[int]) -> "FeatureCache":
        """Return the same cache with the parts of these numbers alone, in this order."""
        spec = self.manifest.spec
        every = range(len(spec.vision_parts)), range(len(spec.text_parts))
        picked = None if (list(vision), list(text)) == tuple(map(list, every)) else (vision, text)
        if picked == self._picked:
            return self
        taken = FeatureCache.__new__(FeatureCache)
        taken.__setstate__(self.__getstate__() | {"_picked": picked})
        return taken

    def _begin(self) -> None:
        spec = self.manifest.spec
        vision, text = self._picked or ((), ())
        self.spec = spec.take(vision, text) if self._picked else spec
        self._columns: Columns = columns(spec.vision_parts, vision)  # none if all are read
        self._text_columns = columns(spec.text_parts, text)
        self._first_rows = np.cumsum([0, *self.manifest.shards("images").column("rows")])
        self._shards: dict[int, _OpenShard] = {}
        self._threads = CopyThreads()
        self._absent = set(self.manifest.absent)
        self.arrivals, self.name = arrivals_of(self.directory), shown(self.directory)
        self._seen_gone = 0

    def split_record(self, name: str) -> SplitRecord:
        """Return what the manifest says of a split, such as its metric."""
        if name not in self.manifest.splits:
            there = ", ".join(self.manifest.splits) or "none"
            raise CacheError(
                f"{self.name}: there is no split {name!r} in this cache (splits: {there}). "
                f"Add it with `frozen-vqa extract-features --cache {quoted_cache(self.directory)} "
                f"--split {name} ...`."
            )
        return self.manifest.splits[name]

    def split(self, name: str) -> SplitTable:
        """Return the table of a split."""
        record = self.split_record(name)
        table = read_table(self.directory, record)
        images, texts = self.manifest.image_rows, self.manifest.question_rows
        for rows, limit in ((table.all_image_rows, images), (table.all_question_rows, texts)):
            if len(rows) and not 0 <= rows.min() <= rows.max() < limit:
                raise CacheDamagedError(
                    f"{path_in(self.directory, record.file)}: points outside the cache"
                )
        needed = {self.manifest.images[i].file for i in self._shards_of(table.all_image_rows)}
        if needed & self._absent:
            raise CacheDamagedError(
                f"{self.name}: split {name!r} shows pictures that this part of a cache lacks"
            )
        return table

    def expect(self, rows: np.ndarray, *, together: bool = False) -> None:
        """Tell which rows of pictures will be read, in this order, where shards come from a URL.

        Raise `CacheError` if their shards are needed `together` and do not fit on the disk.
        """
        if self.arrivals:
            shards = [self.manifest.images[i] for i in self._shards_of(rows)]
            self.arrivals.expect(shards, together=together)

    def pieces(self, most: int) -> Iterator[slice]:
        """Yield all rows of pictures that are here, at most so many at once, shard by shard."""
        shards = self.manifest.shards("images")
        absent = np.array([file in self._absent for file in shards.column("file")], dtype=bool)
        self.expect(self._first_rows[:-1][~absent])
        every = np.column_stack([self._first_rows[:-1], self._first_rows[1:]])
        for first, end in every[~absent].tolist():
            yield from (slice(one, min(one + most, end)) for one in range(first, end, most))

    def _shards_of(self, rows: np.ndarray) -> list[int]:
        """Return the shards of some rows, in the order of their first rows."""
        return list(dict.fromkeys((np.searchsorted(self._first_rows, rows, "right") - 1).tolist()))

    @cached_property
    def questions(self) -> Questions:
        """All distinct questions, read and checked once."""
        return read_questions(self.directory, self.manifest, self._text_columns)

    def read_images(
        self, rows: np.ndarray, out: np.ndarray, scales: np.ndarray | None = None
    ) -> None:
        """Copy patch embeddings of pictures into `out`, and check each row when it is first read.

        Args:
            rows: (n,) rows of pictures, in any order.
            out: (n, patches, vision_dim) in the image dtype of the cache. A page-aligned buffer is
                several times faster than an array fresh from numpy. bfloat16 is given as its bits
                (format/bfloat16.py).
            scales: (n, *spec.scales) float16, filled with the scales of an int8 cache's integers.
        """
        if scales is None and self.spec.quantised:
            raise ValueError(f"{self.name}: integers of an int8 cache need their scales")
        shards = (np.searchsorted(self._first_rows, rows, side="right") - 1).tolist()
        work: list[tuple[_OpenShard, int, np.ndarray]] = []
        for place, (row, index) in enumerate(zip(rows.tolist(), shards, strict=True)):
            shard = self._shards.get(index) or self._open(index)
            local = row - int(self._first_rows[index])
            if scales is not None and shard.scales is not None:
                scales[place] = self._scales(shard.scales[local])  # checked with the structure
            work.append((shard, local, out[place]))
        self._threads.each(self._copy, work, nbytes=out.nbytes)

    def require_usable(self, images: np.ndarray, questions: np.ndarray) -> None:
        """Raise `CacheDamagedError`, with file and row, unless a head can compute with these rows.

        For whoever got an answer that is not finite: to look at every number would slow each epoch,
        and a feature that is not finite shows in the answers.
        """
        for row in np.unique(images).tolist():
            index = int(np.searchsorted(self._first_rows, row, side="right")) - 1
            shard = self._shards.get(index) or self._open(index)
            local = row - int(self._first_rows[index])
            found = [self._seen(shard.rows[local])]
            found += [] if shard.scales is None else [self._scales(shard.scales[local])]
            if any(len(unusable_rows(numbers[np.newaxis])) for numbers in found):
                raise unusable_row(
                    shard.path, local, f"picture {self.image_ids()[row]!r}", self.directory
                )
        firsts = np.cumsum([0, *self.manifest.shards("questions").column("prefixes")])
        every = self.questions
        for question in np.unique(questions).tolist():
            bad = unusable_rows(every.states(question))
            if len(bad):
                row = int(every.path_rows[every.path_offsets[question] + bad[0]])
                index = int(np.searchsorted(firsts, row, side="right")) - 1
                raise unusable_row(
                    path_in(self.directory, self.manifest.questions[index].file),
                    row - int(firsts[index]),
                    f"question {every.texts[question]!r}",
                    self.directory,
                )

    def _seen(self, row: np.ndarray) -> np.ndarray:
        """Return the channels that are read of (patches, channels)."""
        parts = [row[:, at] for _, at in self._columns]
        return np.concatenate(parts, 1) if parts else row

    def _scales(self, scales: np.ndarray) -> np.ndarray:
        """Return the scales that are read of those of a picture."""
        if not self._picked or scales.ndim == 1:
            return scales
        found = scales[:, self._picked[0]]
        return found if found.shape[1] > 1 else found[:, 0]

    def image_ids(self) -> Sequence[str]:
        """Return the id of every picture, by row; "" of one that a part of a cache lacks."""
        return IdsByRow(self.directory, self.manifest)

    def _copy(self, rows: Sequence[tuple[_OpenShard, int, np.ndarray]]) -> None:
        for shard, local, out in rows:
            source = shard.rows[local]
            for to, at in self._columns:
                np.copyto(out[:, to], source[:, at])
            if not self._columns:
                np.copyto(out, source)
            if shard.checked[local]:
                continue
            # The copy is still in the processor's cache, and it is what the caller gets.
            whole = not self._columns and out.dtype == source.dtype and out.flags.c_contiguous
            handed = out if whole else source
            if row_digest(handed) != shard.digests[local]:
                raise damaged_row(shard.path, local, self.directory)
            shard.checked[local] = True

    def _open(self, index: int) -> _OpenShard:
        if not 0 <= index < len(self.manifest.images):
            raise IndexError(f"image row outside 0..{self.manifest.image_rows - 1}")
        record, spec = self.manifest.images[index], self.manifest.spec
        if record.file in self._absent:
            raise CacheError(
                f"{self.name}: this part of a cache lacks {record.file}. Bring it: "
                f"`frozen-vqa pull URL --to {quoted_cache(self.directory)}`"
            )
        file = open_shard(self.directory, "images", record)
        if self.arrivals:
            self._forget_gone(self.arrivals.gone)
        shape = (record.rows, spec.patches, spec.vision_dim)
        rows: np.ndarray | FileRows
        rows, digests = file.rows("patch_embeddings", shape, spec.image_dtype)
        scales = None
        if spec.quantised:
            scales = file.array("patch_scales", (record.rows, *spec.scales), SCALE_DTYPE)
        if not file.mapped:  # the whole shard is in memory: keep what is small
            rows = FileRows(file.path, file.extents["patch_embeddings"])
            scales, digests = None if scales is None else scales.copy(), digests.copy()
        shard = _OpenShard(file.path, rows, scales, digests, np.zeros(record.rows, dtype=bool))
        self._shards[index] = shard
        return shard

    def _forget_gone(self, gone: Sequence[str]) -> None:
        """Close shards that had to make room, because a map keeps a file's room on the disk."""
        new, self._seen_gone = set(gone[self._seen_gone :]), len(gone)
        for index in [i for i in self._shards if new and self.manifest.images[i].xxh3 in new]:
            self._shards.pop(index, None)
