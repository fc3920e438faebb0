"""Stage two's side of the cache: rows at memory speed, each checked when first touched.

Image shards are mapped, not read: their rows are contiguous and unfiltered, so one copy brings a
row from the page cache into the batch. Where a file system has no maps, rows are read by offset.
Hidden states are few after prefix sharing and stay in memory. Nothing is handed to libhdf5, which
damaged files can hang or crash (layout.py reads them).

    cache.json ── pins ── structure of a shard ── pins ── digest of each row ── pins ── its numbers
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cache.copiers import Copiers
from cache.errors import CacheDamagedError, CacheError, quoted, remedy
from cache.files import digest, map_file, read_file, row_digest, row_digests
from cache.hdf5 import Hdf5File, require_offsets
from cache.manifest import (
    FileRecord,
    Manifest,
    ShardKind,
    ShardRecord,
    SplitRecord,
    load_manifest,
)
from cache.rows import FileRows
from cache.shards import FEATURES, NAMES
from cache.spec import SCALE_DTYPE
from cache.splits import SplitTable, read_split

NOT_MAPPED = (errno.ENODEV, errno.ENOTSUP, errno.EPERM, errno.ENOMEM)
"""What the system says where a file system has no maps, or a process may have no more of them."""


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
class _MappedShard:
    """One mapped image shard; `checked` marks the rows whose digest has been compared."""

    file: str
    rows: np.ndarray | FileRows
    scales: np.ndarray | None
    digests: np.ndarray
    checked: np.ndarray


def require_sizes(directory: Path, records: Sequence[FileRecord]) -> None:
    """Raise `CacheDamagedError` unless every file is there in its size: microseconds each."""
    for record in records:
        path = directory / record.file
        try:
            found = path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise CacheDamagedError(f"{path}: cannot be read ({error.strerror})") from error
        if found != record.bytes:
            what = "is missing" if found is None else f"has {found:,} bytes"
            raise CacheDamagedError(
                f"{path}: {what}, the manifest needs {record.bytes:,} bytes. {remedy(directory)}"
            )


def open_shard(directory: Path, kind: ShardKind, record: ShardRecord) -> Hdf5File:
    """Map a shard, and check all of it but its rows of features.

    Raises:
        CacheDamagedError: if it is not what was written.
    """
    path = directory / record.file
    require_sizes(directory, [record])
    try:
        try:
            file = Hdf5File(path, map_file(path))
        except OSError as error:
            if error.errno not in NOT_MAPPED:
                raise
            file = Hdf5File(path, read_file(path))
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise CacheError(
                f"{path}: this process may not open more files, and it needs one for each shard. "
                f"Raise the limit (`ulimit -n`)."
            ) from error
        raise CacheDamagedError(f"{path}: cannot be read ({error.strerror})") from error
    if file.structure_digest(FEATURES[kind]) != record.structure:
        raise CacheDamagedError(
            f"{path}: what it says of its rows is not what was written (digest differs). "
            f"{remedy(directory)}"
        )
    return file


def read_names(directory: Path, manifest: Manifest, kind: ShardKind) -> list[str]:
    """Return the id of every picture, or the text of every distinct question, by row."""
    return [
        name
        for record in manifest.shards(kind)
        for name in open_shard(directory, kind, record).texts(NAMES[kind])
    ]


def read_prefixes(
    directory: Path, manifest: Manifest, shards: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return parent row and last token of every prefix in the first `shards`, both (n,)."""
    parents, tokens = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for record in manifest.questions[:shards]:
        file = open_shard(directory, "questions", record)
        parents.append(file.column("prefix_parent"))
        tokens.append(file.column("prefix_token"))
    return np.concatenate(parents), np.concatenate(tokens)


def read_table(directory: Path, record: SplitRecord) -> SplitTable:
    """Return the table of a split, unchecked against the rest of the cache."""
    return read_split(Hdf5File(directory / record.file, read_whole(directory, record)))


def read_whole(directory: Path, record: FileRecord) -> bytes:
    """Return a file's bytes once they proved to be those that were written.

    Raises:
        CacheDamagedError: if they are not.
    """
    path = directory / record.file
    require_sizes(directory, [record])
    try:
        data = read_file(path)
    except OSError as error:
        raise CacheDamagedError(f"{path}: cannot be read ({error.strerror})") from error
    if digest(data) != record.xxh3:
        raise CacheDamagedError(
            f"{path}: its bytes are not those that were written (digest differs). "
            f"{remedy(directory)}"
        )
    return data


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
        texts: list[str] = []
        hidden_states = self._room_for_states()
        end = 0
        rows, offsets = [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
        for record in self.manifest.questions:
            states = hidden_states[end : (end := end + record.prefixes)]
            more, path_rows, path_offsets = self._read_questions(record, states)
            texts += more
            rows.append(path_rows)
            offsets.append(path_offsets[1:] + offsets[-1][-1])
        path_rows, path_offsets = np.concatenate(rows), np.concatenate(offsets)
        inside = (path_rows >= 0) & (path_rows < self.manifest.prefix_rows)
        # A prefix comes after the one it continues. So no question is longer than the cache has
        # rows, whatever somebody has written there.
        rising = np.diff(path_rows) > 0
        rising[path_offsets[(path_offsets > 0) & (path_offsets < len(path_rows))] - 1] = True
        if len(path_offsets) != len(texts) + 1 or not (inside.all() and rising.all()):
            raise CacheDamagedError(f"{self.directory / 'questions'}: paths do not fit the rows")
        return Questions(texts, hidden_states, path_rows, path_offsets)

    def _read_questions(
        self, record: ShardRecord, states: np.ndarray
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Copy the hidden states of a shard into `states`; return texts, path rows and offsets."""
        path = self.directory / record.file
        file = Hdf5File(path, read_whole(self.directory, record))
        states[:] = file.array("hidden_states", states.shape, self.spec.state_dtype)
        digests = file.array("hidden_states_xxh3", states.shape[:1], np.dtype(np.uint64))
        if (row_digests(states) != digests).any():
            raise CacheDamagedError(f"{path}: hidden states differ from their digests")
        texts = file.texts(NAMES["questions"])
        if len(texts) != record.rows:
            raise CacheDamagedError(f"{path}: it does not hold {record.rows:,} questions")
        path_rows, path_offsets = file.column("path_rows"), file.column("path_offsets")
        require_offsets(path_offsets, len(path_rows), f"{path}: paths")
        # Copies, as a view would keep all of the file in memory.
        return texts, path_rows.copy(), path_offsets.copy()

    def _room_for_states(self) -> np.ndarray:
        """Return room for all hidden states: put together shard by shard they need it only once."""
        rows, stored = self.manifest.prefix_rows, sum(r.bytes for r in self.manifest.questions)
        if rows * self.spec.text_dim * self.spec.state_dtype.itemsize > stored:
            raise CacheDamagedError(
                f"{self.directory / 'questions'}: {stored:,} bytes cannot hold {rows:,} hidden "
                f"states of {self.spec.text_dim:,} numbers. {remedy(self.directory)}"
            )
        return np.empty((rows, self.spec.text_dim), self.spec.state_dtype)

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
