"""The names of all rows of a cache: the ids of its pictures, or the texts of its questions.

An extraction reads them of every shard, which may be a hundred thousand. The manifest has a digest
of the names of a shard, so the two columns that hold them suffice.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import overload

import numpy as np

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.disk.integrity import open_shard, read_at, require_whole
from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.hdf5 import DTYPES, read_extents, require_offsets
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.records.files import ShardKind, ShardRecord
from frozen_vqa.cache.format.shards import NAMES, names_digest


def read_names(directory: Path, manifest: Manifest, kind: ShardKind) -> list[str]:
    """Return the id of every picture, or the text of every distinct question, by row."""
    return list(chain.from_iterable(names_by_shard(directory, manifest, kind)))


def names_by_shard(
    directory: Path, manifest: Manifest, kind: ShardKind, first: int = 0
) -> Iterator[list[str]]:
    """Yield the ids of pictures, or the texts of distinct questions, of each shard from `first` on.

    Raise `CacheError` for a part of a cache, and `CacheDamagedError` for a shard that is not what
    was written.
    """
    require_whole(directory, manifest)
    shards = manifest.shards(kind)
    for record in map(shards.__getitem__, range(first, len(shards))):
        yield _names_of(directory, kind, record)


class IdsByRow(Sequence[str]):
    """The id of every picture of a cache; what is read is the shards of the rows that are asked.

    Pictures of shards that a part of a cache lacks have the id "". How many they are is a
    stranger's word, so nothing is as large as the rows of a manifest.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory, self._absent = directory, set(manifest.absent)
        self._shards = manifest.shards("images")
        self._firsts = list(accumulate(self._shards.column("rows"), initial=0))
        self._read: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return self._firsts[-1]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        rows = range(len(self))[index]
        if isinstance(rows, range):
            return [self[row] for row in rows]
        number = bisect_right(self._firsts, rows) - 1
        if number not in self._read:
            record = self._shards[number]
            here = record.file not in self._absent
            self._read[number] = _names_of(self._directory, "images", record) if here else []
        ids = self._read[number]
        return ids[rows - self._firsts[number]] if ids else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _names_of(directory: Path, kind: ShardKind, record: ShardRecord) -> list[str]:
    names = read_at(directory, record, partial(_names_alone, kind, record))
    if names is None:  # it is damaged, and this says how
        names = open_shard(directory, kind, record).texts(NAMES[kind])
    return names


def _names_alone(kind: ShardKind, record: ShardRecord, path: Path) -> list[str] | None:
    """Return the names of a shard if they have their digest; nothing else of it is read."""
    columns = (f"{NAMES[kind]}_utf8", f"{NAMES[kind]}_offsets")
    try:
        some = {name: record.datasets[name] for name in columns}
        extents = list(read_extents(some, record.bytes, record.file).values())
        if [extent.dtype for extent in extents] != [DTYPES["uint8"], DTYPES["int64"]]:
            return None
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size != record.bytes:
                return None
            text, cuts = (os.pread(file.fileno(), one.nbytes, one.offset) for one in extents)
        offsets = np.frombuffer(cuts, DTYPES["int64"])
        require_offsets(offsets, len(text), record.file)
        names = [text[begin:end].decode() for begin, end in pairwise(offsets.tolist())]
    except (CacheDamagedError, KeyError, OSError, ValueError):
        return None
    whole = len(names) == record.rows and names_digest(names) == record.names
    return names if whole else None
