"""A cache, or a part of it, from a URL to a folder: checked objects, and the manifest last.

A part has some splits: all questions, and the shards with pictures of these splits. Rows, tables
and digests are those of the whole cache, so that a score on a part is the same score. Its manifest
names the absent shards, and a later pull brings them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.disk.lock import sole_writer
from frozen_vqa.cache.disk.pages import read_page
from frozen_vqa.cache.disk.staging import explain_errors
from frozen_vqa.cache.errors import CacheError, StoreError
from frozen_vqa.cache.format.hdf5 import Hdf5File
from frozen_vqa.cache.format.manifest import COPY, NAME, Manifest
from frozen_vqa.cache.format.records.files import FOLDERS, FileRecord, SplitRecord
from frozen_vqa.cache.format.small_files import SMALL_FILES, small_files
from frozen_vqa.cache.format.splits import read_split
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.stores.copies import (
    read_object,
    require_continued,
    require_manifest,
    side_by_side,
)
from frozen_vqa.cache.stores.store import Store
from frozen_vqa.cache.verify import check_file
from frozen_vqa.cache.writer import known_files, own_cache


@dataclass(frozen=True)
class Plan:
    """What a pull will bring: the manifest of the folder, and the files that it lacks."""

    manifest: Manifest
    lacks: Sequence[FileRecord]
    tables: Mapping[str, bytes]

    @property
    def bytes(self) -> int:
        """Bytes that come."""
        return sum(record.bytes for record in self.lacks)


def plan_pull(store: Store, directory: Path, splits: Sequence[str]) -> Plan:
    """Return what is missing in a folder, which keeps the splits that it has; none means all.

    Raises:
        CacheError: if there is no such split.
        CacheMismatchError: if the folder holds another cache.
        StoreError: if the store cannot be used.
    """
    whole = require_manifest(store)
    here = None
    if any(path_in(directory, name).exists() for name in (NAME, COPY)):
        here = load_manifest(directory)
        require_continued(here, whole, directory, store)
    if missing := [name for name in splits if name not in whole.splits]:
        there = ", ".join(whole.splits) or "none"
        raise CacheError(f"{store}: there is no split {missing[0]!r} there (splits: {there})")
    part, tables = whole, dict[str, bytes]()
    if splits:
        names = {*splits, *(here.splits if here else ())}
        part, tables = _part(store, whole, names, here)
    lacks = [record for record in (*part.files, *part.pages) if check_file(directory, part, record)]
    return Plan(part, lacks, tables)


def pull_cache(
    store: Store, directory: Path, plan: Plan, *, advance: Callable[[int], None]
) -> None:
    """Bring what is missing; `advance` learns of the bytes of each file that is here.

    Raises:
        CacheBusyError: if another process writes to the folder.
        CacheError: if the folder is somebody else's, or the disk is full.
        StoreError: if an object is gone, or is not what was written.
    """
    own = own_cache(directory, option="--to")
    with explain_errors(directory):
        own.claim(known_files(own))
        own.require_real(*FOLDERS)
        with sole_writer(directory) as lock:
            own.remove_partials()
            own.note(*(record.file for record in plan.lacks), *SMALL_FILES)
            own.note(*(page.copy for page in plan.manifest.pages))

            def fetch(record: FileRecord) -> None:
                data = plan.tables.get(record.xxh3) or read_object(store, record)
                with explain_errors(path_in(directory, record.file)):
                    write_atomically(path_in(directory, record.file), data)

            for record, _ in side_by_side(store, fetch, plan.lacks):
                advance(record.bytes)
            lock.require()
            for page in plan.manifest.pages:
                write_atomically(path_in(directory, page.copy), read_page(directory, page))
            for name, data in small_files(plan.manifest).items():
                if data:
                    write_atomically(path_in(directory, name), data)
                else:
                    path_in(directory, name).unlink(missing_ok=True)
            named = plan.manifest.file_names | SMALL_FILES
            own.remove(own.names() - named)


def _part(
    store: Store, whole: Manifest, names: set[str], here: Manifest | None
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest of a part with these splits, and the bytes of their tables by digest."""
    splits = {name: record for name, record in whole.splits.items() if name in names}
    tables = {record.xxh3: read_object(store, record) for record in splits.values()}
    used = [_rows_shown(store, record, tables[record.xxh3]) for record in splits.values()]
    ends = np.cumsum(whole.shards("images").column("rows"))
    shards = set(np.searchsorted(ends, np.concatenate(used), side="right").tolist())
    kept = {record.file for record in here.files} if here else set()
    files = enumerate(whole.shards("images").column("file"))
    absent = tuple(file for index, file in files if index not in shards and file not in kept)
    failures = tuple(one for one in whole.failures if not one.split or one.split in splits)
    return replace(whole, splits=splits, absent=absent, failures=failures), tables


def _rows_shown(store: Store, record: SplitRecord, data: bytes) -> np.ndarray:
    try:
        return read_split(Hdf5File(Path(record.file), data, record.datasets)).all_image_rows
    except CacheError as error:
        raise StoreError(f"{store}: {error}") from None
