"""Stage two's side of the cache: rows at memory speed, each checked when first touched.

Image shards are mapped, not read: their rows are contiguous and unfiltered, so one copy brings a
row from the page cache into the batch. Hidden states are few after prefix sharing and stay in
memory. No HDF5 handle outlives the call that opened it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cache.errors import CacheDamagedError, CacheError
from cache.files import digest, row_digest, row_digests
from cache.hdf5 import Hdf5File, require_offsets
from cache.manifest import FileRecord, load_manifest
from cache.splits import SplitTable, read_split


@dataclass(frozen=True)
class Questions:
    """All distinct questions of a cache.

    Attributes:
        texts: The questions, by row.
        hidden_states: (prefixes, text_dim), one row per distinct token prefix.
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
        """Return the hidden states of one question: (tokens, text_dim)."""
        path = self.path_rows[self.path_offsets[row] : self.path_offsets[row + 1]]
        return self.hidden_states[path]


@dataclass
class _Shard:
    """One mapped image shard; `checked` marks the rows whose digest has been compared."""

    path: Path
    rows: np.ndarray
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
        self.spec = self.manifest.spec
        self._first_rows = np.cumsum([0, *(record.rows for record in self.manifest.images)])
        self._shards: dict[int, _Shard] = {}

    def split(self, name: str) -> SplitTable:
        """Return the table of a split."""
        record = self.manifest.splits.get(name)
        if record is None:
            there = ", ".join(self.manifest.splits) or "none"
            raise CacheError(
                f"{self.directory}: there is no split {name!r} in this cache (splits: {there}). "
                f"Add it with `extract-features --cache {self.directory} --split {name} ...`."
            )
        self._require_digest(record)
        table = read_split(self.directory / record.file)
        limits = (self.manifest.image_rows, self.manifest.question_rows)
        for rows, limit in zip((table.image_rows, table.question_rows), limits, strict=True):
            if len(rows) and not 0 <= rows.min() <= rows.max() < limit:
                raise CacheDamagedError(f"{self.directory / record.file}: points outside the cache")
        return table

    @cached_property
    def questions(self) -> Questions:
        """All distinct questions, read and checked once."""
        texts: list[str] = []
        states = [np.empty((0, self.spec.text_dim), self.spec.dtype)]
        rows, offsets = [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
        for record in self.manifest.questions:
            self._require_digest(record)
            path = self.directory / record.file
            with Hdf5File(path) as file:
                shape = (record.prefixes, self.spec.text_dim)
                states.append(file.array("hidden_states", shape, np.dtype(self.spec.dtype)))
                digests = file.array("hidden_states_xxh3", shape[:1], np.dtype(np.uint64))
                if (row_digests(states[-1]) != digests).any():
                    raise CacheDamagedError(f"{path}: hidden states differ from their digests")
                texts += file.texts("question")
                rows.append(file.column("path_rows"))
                path_offsets = file.column("path_offsets")
            require_offsets(path_offsets, len(rows[-1]), f"{path}: paths")
            offsets.append(path_offsets[1:] + offsets[-1][-1])
        path_rows, path_offsets = np.concatenate(rows), np.concatenate(offsets)
        inside = (path_rows >= 0) & (path_rows < self.manifest.prefix_rows)
        if len(path_offsets) != len(texts) + 1 or not inside.all():
            raise CacheDamagedError(f"{self.directory / 'questions'}: paths do not fit the rows")
        return Questions(texts, np.concatenate(states), path_rows, path_offsets)

    def read_images(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy patch embeddings of pictures into `out`, checking each on its first touch.

        Args:
            rows: (n,) rows of pictures, in any order.
            out: (n, patches, vision_dim) in the dtype of the cache. A page-aligned buffer is
                several times faster than an array fresh from numpy.
        """
        shards = np.searchsorted(self._first_rows, rows, side="right") - 1
        for place, (row, index) in enumerate(zip(rows, shards, strict=True)):
            shard = self._shards.get(index) or self._open(int(index))
            local = row - self._first_rows[index]
            source = shard.rows[local]
            if not shard.checked[local]:
                if row_digest(source) != shard.digests[local]:
                    raise CacheDamagedError(
                        f"{shard.path}: row {local} differs from its digest, so it is not what "
                        f"was written. Restore the file from a copy, or extract again into "
                        f"another --cache."
                    )
                shard.checked[local] = True
            np.copyto(out[place], source)

    def image_ids(self) -> list[str]:
        """Return the id of every picture, by row."""
        ids: list[str] = []
        for record in self.manifest.images:
            with Hdf5File(self.directory / record.file) as file:
                ids += file.texts("image_id")
        return ids

    def files(self) -> list[FileRecord]:
        """Return the record of every file that the manifest names."""
        manifest = self.manifest
        return [*manifest.images, *manifest.questions, *manifest.splits.values()]

    def problem_with(self, record: FileRecord) -> str:
        """Read every byte of a file; return what is wrong with it, or ""."""
        try:
            self._require_digest(record)
        except CacheDamagedError as error:
            return str(error)
        return ""

    def _open(self, index: int) -> _Shard:
        if not 0 <= index < len(self.manifest.images):
            raise IndexError(f"image row outside 0..{self.manifest.image_rows - 1}")
        record = self.manifest.images[index]
        path = self.directory / record.file
        self._require_size(record)
        shape = (record.rows, self.spec.patches, self.spec.vision_dim)
        with Hdf5File(path) as file:
            extent = file.extent("patch_embeddings", shape, np.dtype(self.spec.dtype))
            digests = file.array("patch_embeddings_xxh3", shape[:1], np.dtype(np.uint64))
        rows = np.memmap(path, extent.dtype, mode="r", offset=extent.offset, shape=shape)
        checked = np.zeros(record.rows, dtype=bool)
        # A plain array over the map: indexing a np.memmap makes a new object with a finaliser.
        shard = _Shard(path, np.asarray(rows), digests, checked)
        self._shards[index] = shard
        return shard

    def _require_size(self, record: FileRecord) -> None:
        path = self.directory / record.file
        found = path.stat().st_size if path.is_file() else None
        if found != record.bytes:
            what = "is missing" if found is None else f"has {found:,} bytes"
            raise CacheDamagedError(
                f"{path}: {what}, the manifest needs {record.bytes:,} bytes. "
                f"Restore it from a copy, or extract again into another --cache."
            )

    def _require_digest(self, record: FileRecord) -> None:
        self._require_size(record)
        path = self.directory / record.file
        try:
            found = digest(path.read_bytes())
        except OSError as error:
            raise CacheDamagedError(f"{path}: cannot be read ({error.strerror})") from error
        if found != record.xxh3:
            raise CacheDamagedError(
                f"{path}: its bytes are not those that were written (digest differs). "
                f"Restore it from a copy, or extract again into another --cache."
            )
