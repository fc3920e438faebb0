"""Every byte of a cache against its digests, several files at once.

A file whose digest differs is examined: if all bytes outside of its feature rows are those that
were written, the damaged rows are named.
"""

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event

import numpy as np
import xxhash

from frozen_vqa.cache.arrivals import arrivals_of
from frozen_vqa.cache.disk.files import open_regular, same_bytes
from frozen_vqa.cache.disk.integrity import open_shard, read_at
from frozen_vqa.cache.disk.pages import read_page
from frozen_vqa.cache.errors import CacheDamagedError, ObjectError
from frozen_vqa.cache.format.digests import row_digests
from frozen_vqa.cache.format.finite import unusable_rows
from frozen_vqa.cache.format.hdf5 import Hdf5File
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.records.files import DataRecord, FileRecord, ShardKind, ShardRecord
from frozen_vqa.cache.format.shards import FEATURES, NAMES, read_paths
from frozen_vqa.cache.format.small_files import small_files
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.cache.names import path_in

BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Damage:
    """The damage of one file.

    `rows` are damaged rows of its features, none if more than rows is damaged. `names` are the
    image ids of these rows, or the questions that use them.
    """

    file: str
    reason: str
    rows: Sequence[int] = ()
    names: Sequence[str] = ()


def draw_files(manifest: Manifest, count: int) -> list[DataRecord]:
    """Return so many shards and splits, others each time; all of them if there are no more.

    The pages of few are read, so that this takes as long for any cache.
    """
    if manifest.absent:
        return random.sample(manifest.files, min(count, len(manifest.files)))
    splits = list(manifest.splits.values())
    groups: tuple[Sequence[DataRecord], ...] = (manifest.images, manifest.questions, splits)
    total = sum(map(len, groups))
    drawn: list[DataRecord] = []
    for place in sorted(random.sample(range(total), min(count, total))):
        for group in groups:
            if place < len(group):
                drawn.append(group[place])
                break
            place -= len(group)
    return drawn


def verify(
    directory: Path, manifest: Manifest, files: Sequence[DataRecord] | None = None
) -> Iterator[tuple[DataRecord, Damage | None]]:
    """Read files of a cache, all by default; yield each with what is wrong with it."""
    stop = Event()
    threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="verify")
    try:
        pending = {
            threads.submit(check_file, directory, manifest, record, stop): record
            for record in (manifest.files if files is None else files)
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

    Once `stop` is set, the rest is not read, and the answer means nothing.
    """
    hasher = xxhash.xxh3_128()
    block = memoryview(bytearray(BLOCK_BYTES))
    try:
        # Read, not mapped: a failing disk under a map ends the process with a signal.
        with read_at(directory, record, open_regular) as file:
            size = os.fstat(file.fileno()).st_size  # another one may be a terabyte of zeros
            while size == record.bytes and (count := file.readinto(block)):
                hasher.update(block[:count])
                if stop and stop.is_set():
                    break
    except FileNotFoundError:
        return Damage(record.file, "the file is missing")
    except OSError as error:
        return Damage(record.file, f"cannot be read ({error.strerror})")
    except ObjectError as error:
        return Damage(record.file, str(error))
    if size != record.bytes:
        return Damage(record.file, f"has {size:,} bytes instead of {record.bytes:,}")
    whole = hasher.hexdigest() == record.xxh3
    if isinstance(record, ShardRecord):
        return _examine_rows(directory, manifest, record, whole=whole)
    return None if whole else Damage(record.file, "its bytes are not those that were written")


def check_copies(directory: Path, manifest: Manifest) -> list[Damage]:
    """Compare the manifest with the files that repeat it: its copy and failures.jsonl.

    A page has a copy as well, and is read from there if it is damaged.
    """
    found: list[Damage] = []
    if arrivals_of(directory):  # a URL has no copies
        return found
    pages = ((page, read_page(directory, page)) for page in manifest.pages)
    twins = ((name, data) for page, data in pages for name in (page.file, page.copy))
    for name, data in chain(small_files(manifest).items(), twins):
        try:
            if same_bytes(path_in(directory, name), data):
                continue
            what = "differs from cache.json" if path_in(directory, name).exists() else "is missing"
            first = ""
        except OSError as error:
            what, first = f"cannot be read ({error.strerror})", "move it away, and "
        found.append(Damage(name, f"{what}; {first}the next extract-features writes it again"))
    return found


def _examine_rows(
    directory: Path, manifest: Manifest, record: ShardRecord, *, whole: bool
) -> Damage | None:
    """Return the rows of a shard that differ from their digests or, if it is `whole`, are unusable.

    A stranger's cache may have digests of anything.
    """
    kind: ShardKind = "images" if record.file.startswith("images/") else "questions"
    try:
        file = open_shard(directory, kind, record)
        bad: set[int] = set()
        for feature in FEATURES[kind]:
            dtype = manifest.spec.feature_dtype(feature)
            found, stored = file.rows(feature, file.extents[feature].shape, dtype)
            bad |= set(
                unusable_rows(found) if whole else np.flatnonzero(row_digests(found) != stored)
            )
        if whole and kind == "images" and manifest.spec.quantised:
            shape = (record.rows, *manifest.spec.scales)
            bad |= set(unusable_rows(file.array("patch_scales", shape, SCALE_DTYPE)))
        rows = sorted(map(int, bad))
        if whole and not rows:
            return None
        if kind == "images":
            ids = file.texts(NAMES[kind])
            names = [ids[row] for row in rows]
        else:
            names = _questions_using(file, rows, manifest, record)
    except (CacheDamagedError, KeyError, IndexError, ValueError):  # in a shard from elsewhere
        return Damage(
            record.file, "its bytes outside of the features are not those that were written"
        )
    what = (
        "hold numbers that are not finite or beyond 1e18" if whole else "are not what was written"
    )
    return Damage(record.file, f"{len(rows)} rows {what}", rows, names)


def _questions_using(
    file: Hdf5File, rows: Sequence[int], manifest: Manifest, record: ShardRecord
) -> list[str]:
    """Return the questions of a shard that use some of its prefixes."""
    every = manifest.shards("questions")
    first = sum(every.column("prefixes")[: every.column("file").index(record.file)])
    texts, path_rows, offsets = read_paths(file, record.rows)
    touched = np.flatnonzero(np.isin(path_rows, np.asarray(rows) + first))
    questions = np.unique(np.searchsorted(offsets, touched, side="right") - 1)
    return [texts[question] for question in questions]
