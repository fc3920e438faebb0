"""Files of a cache, each compared with its digest before its content is trusted.

cache.json ── pins ── structure of a shard ── pins ── digest of each row ── pins ── its numbers
"""

import errno
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

import numpy as np

from frozen_vqa.cache.arrivals import arrivals_of
from frozen_vqa.cache.disk.files import map_file, read_file
from frozen_vqa.cache.disk.pages import read_page
from frozen_vqa.cache.errors import (
    CacheDamagedError,
    CacheError,
    explain_read_errors,
    quoted,
    remedy,
    wrong_folder,
)
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.hdf5 import Hdf5File
from frozen_vqa.cache.format.manifest import (
    COPY,
    LARGEST,
    NAME,
    Manifest,
    damaged_manifest,
    parse_manifest,
)
from frozen_vqa.cache.format.records.files import (
    KINDS,
    DataRecord,
    FileRecord,
    ShardKind,
    ShardRecord,
    SplitRecord,
)
from frozen_vqa.cache.format.shards import FEATURES, read_pictures, sizes_and_digests
from frozen_vqa.cache.format.splits import SplitTable, read_split
from frozen_vqa.cache.large.dicts import LargeDict
from frozen_vqa.cache.names import path_in

T = TypeVar("T")

FETCHES = 8
"""Times that a file comes which other processes remove before it is read: their stage is small."""

NOT_MAPPED = (errno.ENODEV, errno.ENOTSUP, errno.EPERM, errno.ENOMEM)
"""Errors of a file system that has no maps, or of a process that may have no more of them."""


def load_manifest(directory: Path) -> Manifest:
    """Read cache.json; raise `CacheError` if there is none, or as `parse_manifest` does."""
    path = directory / NAME
    try:
        return parse_manifest(path, read_file(path, most=LARGEST), read_page)
    except (FileNotFoundError, NotADirectoryError):
        if (directory / COPY).exists():
            raise damaged_manifest(path, "it is missing, but its copy is there") from None
        raise CacheError(wrong_folder(directory, "cache", NAME)) from None
    except OSError as error:
        raise CacheError(
            f"{path}: cannot be read ({error.strerror}). Check it and its permissions; its second "
            f"copy is {path.with_name(COPY)}."
        ) from error


def require_all_sizes(directory: Path, manifest: Manifest) -> None:
    """Raise `CacheDamagedError` unless every shard and split is there with its size."""
    absent = set(manifest.absent)
    for kind in KINDS:
        shards, found = manifest.shards(kind), _sizes_in(directory, kind)
        wanted = zip(shards.column("file"), shards.column("bytes"), strict=True)
        doubtful = [at for at, (file, size) in enumerate(wanted) if found.get(file) != size]
        require_sizes(directory, [one for at in doubtful if (one := shards[at]).file not in absent])
    require_sizes(directory, list(manifest.splits.values()))


def _sizes_in(directory: Path, folder: str) -> dict[str, int]:
    """Return the sizes of the regular files in a folder, a hundred thousand of them in no time."""
    found = {}
    with suppress(OSError), os.scandir(path_in(directory, folder)) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_file():
                    found[f"{folder}/{entry.name}"] = entry.stat().st_size
    return found


def require_whole(directory: Path, manifest: Manifest) -> None:
    """Raise `CacheError` for a part of a cache, to which nothing can be added."""
    if manifest.absent:
        raise CacheError(
            f"{directory}: this is a part of a cache, without {len(manifest.absent):,} of "
            f"{len(manifest.images):,} shards of pictures. Bring the others first: "
            f"frozen-vqa pull URL --to {quoted(directory)}"
        )


def require_sizes(directory: Path, records: Sequence[FileRecord]) -> None:
    """Raise `CacheDamagedError` unless every file is there with its size; this is quick."""
    for record in records:
        _require_size(directory, path_in(directory, record.file), record)


def read_at(directory: Path, record: FileRecord, read: Callable[[Path], T]) -> T:
    """Return what `read` gives for the path of a file; one of a cache at a URL comes first.

    It comes again if another process made room on the disk before it was read, and once if it is
    damaged there.
    """
    arrivals = arrivals_of(directory)
    if not arrivals:
        return read(path_in(directory, record.file))
    damaged = False
    for left in reversed(range(FETCHES)):
        path = arrivals.bring(record)
        try:
            return read(path)
        except (CacheDamagedError, FileNotFoundError):
            if damaged or not left:
                raise
            if damaged := path.exists():
                arrivals.forget(record)
    raise AssertionError("the last try returns or raises")


def _require_size(directory: Path, path: Path, record: FileRecord) -> None:
    try:
        found = path.stat()
        what = f"has {found.st_size:,} bytes" if S_ISREG(found.st_mode) else "is no regular file"
    except FileNotFoundError:
        what = "is missing"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    if what != f"has {record.bytes:,} bytes":
        raise CacheDamagedError(
            f"{path}: {what}, the manifest needs {record.bytes:,} bytes. {remedy(directory)}"
        )


def open_shard(directory: Path, kind: ShardKind, record: ShardRecord) -> Hdf5File:
    """Map a shard; raise `CacheDamagedError` if anything but its feature rows is not as written."""
    return read_at(directory, record, lambda path: _open_shard(directory, path, kind, record))


def _open_shard(directory: Path, path: Path, kind: ShardKind, record: ShardRecord) -> Hdf5File:
    _require_size(directory, path, record)
    with explain_read_errors(path, CacheDamagedError):
        try:
            file = Hdf5File(path, map_file(path), record.datasets)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise CacheError(
                    f"{path}: this process may not open more files, and it needs one for each "
                    f"shard. Raise the limit (`ulimit -n`)."
                ) from error
            if error.errno not in NOT_MAPPED:
                raise
            file = Hdf5File(path, read_file(path), record.datasets)
    if file.structure_digest(FEATURES[kind]) != record.structure:
        raise CacheDamagedError(
            f"{path}: its bytes outside of the features are not those that were written (digest "
            f"differs). {remedy(directory)}"
        )
    return file


def read_whole(directory: Path, record: DataRecord) -> Hdf5File:
    """Read a file into memory; raise `CacheDamagedError` if it is not what was written."""
    return read_at(directory, record, lambda path: _read_whole(directory, path, record))


def _read_whole(directory: Path, path: Path, record: DataRecord) -> Hdf5File:
    _require_size(directory, path, record)
    with explain_read_errors(path, CacheDamagedError):
        try:
            data = read_file(path, most=record.bytes)
        except MemoryError:
            raise CacheError(f"{path}: its {record.bytes:,} bytes do not fit in memory") from None
    if digest(data) != record.xxh3:
        raise CacheDamagedError(
            f"{path}: its bytes are not those that were written (digest differs). "
            f"{remedy(directory)}"
        )
    return Hdf5File(path, data, record.datasets)


@dataclass(frozen=True)
class KnownPictures:
    """What a cache knows its pictures by; a picture is named by the image id of its row.

    Attributes:
        ids: The picture of each image id.
        digests: The picture of each content, by its digest in hexadecimal.
        sizes: The sizes of these contents in bytes.
    """

    ids: LargeDict[str, str] = field(default_factory=LargeDict[str, str])
    digests: Mapping[str, str] = field(default_factory=dict)
    sizes: Collection[int] = ()


def read_contents(directory: Path, records: Sequence[ShardRecord]) -> KnownPictures:
    """Return what some shards of pictures know them by."""
    known, digests, sizes = LargeDict[str, str](), LargeDict[str, str](), set[int]()
    for record in records:
        file = open_shard(directory, "images", record)
        ids, _, contents = read_pictures(file, record.rows)
        for name in ids:
            known.setdefault(name, name)
        for name, (size, found) in zip(ids, sizes_and_digests(contents), strict=True):
            if size:
                sizes.add(size)
                digests.setdefault(found, name)
    return KnownPictures(known, digests, sizes)


def read_known_pictures(directory: Path, manifest: Manifest) -> KnownPictures:
    """Return what a cache knows its pictures by; its splits have further ids of them.

    A split that is damaged tells nothing, because stage one has to write it again.
    """
    found = read_contents(directory, manifest.images)
    names, _ = found.ids.in_order
    for record in manifest.splits.values():
        with suppress(CacheDamagedError):
            for name, row in read_table(directory, record).named_pictures():
                if 0 <= row < len(names):
                    found.ids.setdefault(name, names[row])
    return found


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
    """Return the table of a split, without comparing its rows with the rest of the cache."""
    table = read_split(read_whole(directory, record))
    if len(table) != record.rows:
        raise CacheDamagedError(
            f"{path_in(directory, record.file)}: it holds {len(table):,} questions, the manifest "
            f"needs {record.rows:,}. {remedy(directory)}"
        )
    return table
