"""Every byte of a cache against its digests, several files at once.

A file whose digest differs is looked into: if all but its rows is as it was written, the rows that
differ are named.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
import xxhash

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.files import open_regular, row_digests
from frozen_vqa.cache.hdf5 import Hdf5File
from frozen_vqa.cache.manifest import (
    FileRecord,
    Manifest,
    ShardKind,
    ShardRecord,
    same_bytes,
    small_files,
)
from frozen_vqa.cache.opening import open_shard
from frozen_vqa.cache.shards import FEATURES, NAMES

BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file.

    Attributes:
        file: Its name below the cache.
        reason: What was found.
        rows: Of its features, those that differ; empty if more than rows is damaged.
        names: Image ids of these rows, or the questions that use them.
    """

    file: str
    reason: str
    rows: Sequence[int] = ()
    names: Sequence[str] = ()


def verify(directory: Path, manifest: Manifest) -> Iterator[tuple[FileRecord, Damage | None]]:
    """Read all files of a cache; yield each when it is done, with what is wrong with it."""
    stop = Event()
    threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="verify")
    try:
        pending = {
            threads.submit(check_file, directory, manifest, record, stop): record
            for record in manifest.files
        }
        for done in as_completed(pending):
            yield pending[done], done.result()
    finally:
        stop.set()  # Ctrl-C need not wait for a hundred gigabytes
        threads.shutdown(cancel_futures=True)


def check_file(
    directory: Path, manifest: Manifest, record: FileRecord, stop: Event | None = None
) -> Damage | None:
    """Read every byte of a file; return what is wrong with it, or None.

    Args:
        directory: Of the cache.
        manifest: Of the cache.
        record: Of the file.
        stop: Once set, the rest is not read and the answer means nothing.
    """
    path = directory / record.file
    hasher = xxhash.xxh3_128()
    block = memoryview(bytearray(BLOCK_BYTES))
    size = 0
    try:
        # Read, not mapped: from a map a failing disk ends the process with a signal.
        with open_regular(path) as file:
            while (count := file.readinto(block)) and not (stop and stop.is_set()):
                hasher.update(block[:count])
                size += count
    except FileNotFoundError:
        return Damage(record.file, "the file is missing")
    except OSError as error:
        return Damage(record.file, f"cannot be read ({error.strerror})")
    if size != record.bytes:
        return Damage(record.file, f"has {size:,} bytes instead of {record.bytes:,}")
    if hasher.hexdigest() == record.xxh3:
        return None
    if isinstance(record, ShardRecord):
        return _look_into(directory, manifest, record)
    return Damage(record.file, "its bytes are not those that were written")


def check_copies(directory: Path, manifest: Manifest) -> list[Damage]:
    """Compare what says the manifest's content again with it: its copy, and failures.jsonl."""
    reason = "does not say what cache.json says; the next extract-features brings it back"
    return [
        Damage(name, reason)
        for name, data in small_files(manifest).items()
        if not same_bytes(directory / name, data)
    ]


def _look_into(directory: Path, manifest: Manifest, record: ShardRecord) -> Damage:
    """Find the rows that differ in a shard whose digest does."""
    kind: ShardKind = "images" if record.file.startswith("images/") else "questions"
    try:
        file = open_shard(directory, kind, record)
        names = file.texts(NAMES[kind])
        bad: set[int] = set()
        for feature in FEATURES[kind]:
            bad |= _bad_rows(file, feature, manifest)
        rows = sorted(bad)
        if kind == "images":
            affected = [names[row] for row in rows]
        else:
            affected = _questions_using(file, rows, manifest, record)
    except (CacheDamagedError, KeyError, IndexError, ValueError):  # of a shard from elsewhere
        return Damage(record.file, "what it says of its rows is not what was written")
    return Damage(record.file, f"{len(rows)} rows are not what was written", rows, affected)


def _bad_rows(file: Hdf5File, feature: str, manifest: Manifest) -> set[int]:
    extent = file.layout[feature]
    spec = manifest.spec
    dtype = spec.image_dtype if feature == "patch_embeddings" else spec.state_dtype
    rows = file.array(feature, extent.shape, dtype)
    stored = file.array(f"{feature}_xxh3", extent.shape[:1], np.dtype(np.uint64))
    return set(np.flatnonzero(row_digests(rows) != stored).tolist())


def _questions_using(
    file: Hdf5File, rows: Sequence[int], manifest: Manifest, record: ShardRecord
) -> list[str]:
    """Return the questions of a shard that use some of its prefixes."""
    first = 0
    for other in manifest.questions:
        if other.file == record.file:
            break
        first += other.prefixes
    texts, path = file.texts(NAMES["questions"]), file.column("path_rows")
    offsets = file.column("path_offsets")
    touched = np.flatnonzero(np.isin(path, np.asarray(rows) + first))
    questions = np.unique(np.searchsorted(offsets, touched, side="right") - 1)
    return [texts[question] for question in questions]
