"""Stage two's side of the cache: rows at memory speed, each checked when first read.

Image shards are mapped, not read: their rows are contiguous and unfiltered, so one copy brings a
row from the page cache into the batch. Where a file system has no maps, rows are read by offset.
Hidden states are few after prefix sharing and stay in memory.
"""

import math
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.cache.disk.copy_threads import CopyThreads
from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.disk.integrity import (
    load_manifest,
    open_shard,
    read_names,
    read_table,
    read_whole,
    require_sizes,
)
from frozen_vqa.cache.errors import (
    CacheDamagedError,
    CacheError,
    damaged_row,
    quoted,
    remedy,
    unusable_row,
)
from frozen_vqa.cache.format.bfloat16 import to_floats
from frozen_vqa.cache.format.digests import row_digest, row_digests
from frozen_vqa.cache.format.finite import unusable_rows
from frozen_vqa.cache.format.hdf5 import Extent
from frozen_vqa.cache.format.manifest import Manifest, ShardRecord, SplitRecord
from frozen_vqa.cache.format.shards import read_paths
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.format.splits import SplitTable
from frozen_vqa.cache.names import path_in


class FileRows:
    """Stands for a mapped dataset where there are no maps: an index reads one row."""

    def __init__(self, path: Path, extent: Extent) -> None:
        with open_regular(path) as file:
            self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)
        self._path, self._extent = path, extent

    def __getitem__(self, row: int) -> np.ndarray:
        offset, shape, dtype = self._extent.offset, self._extent.shape[1:], self._extent.dtype
        nbytes = math.prod(shape) * dtype.itemsize
        offset, data = offset + int(row) * nbytes, b""
        try:
            while len(data) < nbytes and (
                more := os.pread(self._handle, nbytes - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise CacheDamagedError(
                f"{self._path}: row {row} cannot be read ({error.strerror})"
            ) from error
        if len(data) < nbytes:
            raise CacheDamagedError(
                f"{self._path}: ends before row {row}. {remedy(self._path.parent.parent)}"
            )
        return np.frombuffer(data, dtype).reshape(shape)


@dataclass(frozen=True)
class Questions:
    """All distinct questions of a cache.

    Attributes:
        hidden_states: (prefixes, text_dim), one row per distinct token prefix, in the state dtype
            of the cache.
        path_rows: (tokens,) rows of `hidden_states`, question after question.
        path_offsets: (questions + 1,) where each question's path begins and ends.
    """

    texts: Sequence[str]
    hidden_states: np.ndarray
    path_rows: np.ndarray
    path_offsets: np.ndarray

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each question: (questions,)."""
        return np.diff(self.path_offsets)

    def states(self, row: int) -> np.ndarray:
        """Return the hidden states of one question: (tokens, text_dim) floats."""
        path = self.path_rows[self.path_offsets[row] : self.path_offsets[row + 1]]
        return to_floats(self.hidden_states[path])


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

    Raises:
        CacheError: if there is no cache there.
        CacheDamagedError: from every method, if bytes are not those that were written.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.manifest = load_manifest(self.directory)
        require_sizes(self.directory, self.manifest.files)
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process opens the same cache by; features stay in their files."""
        return {"directory": self.directory, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open it by the same manifest, so that a file that was replaced since is refused."""
        self.__dict__ |= state
        self._begin()

    def _begin(self) -> None:
        self.spec = self.manifest.spec
        self._first_rows = np.cumsum([0, *(record.rows for record in self.manifest.images)])
        self._shards: dict[int, _OpenShard] = {}
        self._threads = CopyThreads()

    def split_record(self, name: str) -> SplitRecord:
        """Return what the manifest says of a split, such as its metric."""
        if name not in self.manifest.splits:
            there = ", ".join(self.manifest.splits) or "none"
            raise CacheError(
                f"{self.directory}: there is no split {name!r} in this cache (splits: {there}). "
                f"Add it with `frozen-vqa extract-features --cache {quoted(self.directory)} "
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
        return table

    @cached_property
    def questions(self) -> Questions:
        """All distinct questions, read and checked once."""
        return read_questions(self.directory, self.manifest)

    def read_images(
        self, rows: np.ndarray, out: np.ndarray, scales: np.ndarray | None = None
    ) -> None:
        """Copy patch embeddings of pictures into `out`, and check each row when it is first read.

        Args:
            rows: (n,) rows of pictures, in any order.
            out: (n, patches, vision_dim) in the image dtype of the cache. A page-aligned buffer is
                several times faster than an array fresh from numpy. bfloat16 is given as its bits
                (format/bfloat16.py).
            scales: (n, patches) float16, filled with the scales of an int8 cache's integers.
        """
        if scales is None and self.spec.quantised:
            raise ValueError(f"{self.directory}: integers of an int8 cache need their scales")
        shards = (np.searchsorted(self._first_rows, rows, side="right") - 1).tolist()
        work: list[tuple[_OpenShard, int, np.ndarray]] = []
        for place, (row, index) in enumerate(zip(rows.tolist(), shards, strict=True)):
            shard = self._shards.get(index) or self._open(index)
            local = row - int(self._first_rows[index])
            if scales is not None and shard.scales is not None:
                scales[place] = shard.scales[local]  # checked with the shard's structure
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
            found = [shard.rows[local]]
            found += [] if shard.scales is None else [shard.scales[local]]
            if any(len(unusable_rows(numbers[np.newaxis])) for numbers in found):
                raise unusable_row(
                    shard.path, local, f"picture {self.image_ids()[row]!r}", self.directory
                )
        firsts = np.cumsum([0, *(record.prefixes for record in self.manifest.questions)])
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

    def image_ids(self) -> list[str]:
        """Return the id of every picture, by row."""
        return read_names(self.directory, self.manifest, "images")

    def _copy(self, rows: Sequence[tuple[_OpenShard, int, np.ndarray]]) -> None:
        for shard, local, out in rows:
            source = shard.rows[local]
            np.copyto(out, source)
            if shard.checked[local]:
                continue
            # The copy is still in the processor's cache, and it is what the caller gets.
            handed = out if out.dtype == source.dtype and out.flags.c_contiguous else source
            if row_digest(handed) != shard.digests[local]:
                raise damaged_row(shard.path, local, self.directory)
            shard.checked[local] = True

    def _open(self, index: int) -> _OpenShard:
        if not 0 <= index < len(self.manifest.images):
            raise IndexError(f"image row outside 0..{self.manifest.image_rows - 1}")
        record, spec = self.manifest.images[index], self.spec
        file = open_shard(self.directory, "images", record)
        shape = (record.rows, spec.patches, spec.vision_dim)
        rows: np.ndarray | FileRows
        rows, digests = file.rows("patch_embeddings", shape, spec.image_dtype)
        scales = file.array("patch_scales", shape[:2], SCALE_DTYPE) if spec.quantised else None
        if not file.mapped:  # the whole shard is in memory: keep what is small
            rows = FileRows(file.path, file.extents["patch_embeddings"])
            scales, digests = None if scales is None else scales.copy(), digests.copy()
        shard = _OpenShard(file.path, rows, scales, digests, np.zeros(record.rows, dtype=bool))
        self._shards[index] = shard
        return shard


def read_questions(directory: Path, manifest: Manifest) -> Questions:
    """Read all questions; raise `CacheDamagedError` if they are not what was written."""
    texts: list[str] = []
    shape = manifest.prefix_rows, manifest.spec.text_dim
    hidden_states = np.empty(shape, manifest.spec.state_dtype)  # joined without a second copy
    end = 0
    rows, offsets = [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
    for record in manifest.questions:
        states = hidden_states[end : (end := end + record.prefixes)]
        more, path_rows, path_offsets = _read_shard(directory, record, states)
        texts += more
        rows.append(path_rows)
        offsets.append(path_offsets[1:] + offsets[-1][-1])
    path_rows, path_offsets = np.concatenate(rows), np.concatenate(offsets)
    inside = (path_rows >= 0) & (path_rows < manifest.prefix_rows)
    # A prefix comes after the one it continues. So no question can be longer than the cache has
    # rows, even in a cache from somebody else.
    rising = np.diff(path_rows) > 0
    rising[path_offsets[(path_offsets > 0) & (path_offsets < len(path_rows))] - 1] = True
    if not (inside.all() and rising.all()):
        raise CacheDamagedError(f"{directory / 'questions'}: paths do not fit the rows")
    return Questions(texts, hidden_states, path_rows, path_offsets)


def _read_shard(
    directory: Path, record: ShardRecord, states: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Copy the hidden states of a shard into `states`; return texts, path rows and offsets."""
    file = read_whole(directory, record)
    states[:], digests = file.rows("hidden_states", states.shape, states.dtype)
    if (row_digests(states) != digests).any():
        raise CacheDamagedError(f"{file.path}: hidden states differ from their digests")
    texts, path_rows, path_offsets = read_paths(file, record.rows)
    # Copies, because a view would keep all of the file in memory.
    return texts, path_rows.copy(), path_offsets.copy()
