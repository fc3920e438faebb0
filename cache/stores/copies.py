"""A cache and its copy at a store: names of objects, the manifest, and what may follow what."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from frozen_vqa.cache.arrivals import Record
from frozen_vqa.cache.errors import (
    CacheDamagedError,
    CacheError,
    CacheMismatchError,
    ObjectError,
    StoreError,
)
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.manifest import LARGEST, NAME, Manifest, parse_manifest
from frozen_vqa.cache.format.records.files import KINDS, FileRecord
from frozen_vqa.cache.stores.store import GoneError, Store

T = TypeVar("T")

CONNECTIONS = 8
"""Requests side by side at most; a few fill the line of most machines."""

IN_FLIGHT = 1 << 30
"""Bytes of objects in memory at most, on their way."""

LARGEST_OBJECT = 1 << 30
"""Bytes of an object; a shard has a fraction of it."""

OBJECT = re.compile(r"((images|questions|splits)/[0-9a-f]{32}\.h5|manifest/[0-9a-f]{32}\.json)")
LEFTOVER = re.compile(OBJECT.pattern + r"(\.[0-9a-f]{8}\.partial){0,2}")
"""Names that no one else gives: objects, and what a killed upload leaves in a folder."""


def object_name(record: Record) -> str:
    """Return the name of a file's object; raise `CacheDamagedError` if it has no digest."""
    if record.bytes > LARGEST_OBJECT:
        raise CacheError(
            f"{record.file}: it has {record.bytes:,} bytes, and an object at a URL at most "
            f"{LARGEST_OBJECT:,}, because each is sent and checked as a whole"
        )
    folder, _, file = record.file.partition("/")
    name = f"{folder}/{record.xxh3}.{file.rpartition('.')[2]}"
    if not OBJECT.fullmatch(name):
        raise CacheDamagedError(f"{record.file}: {record.xxh3!r:.40} is no digest of its bytes")
    return name


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest at a store, None if there is none; raise as `parse_manifest` does."""
    try:
        data = store.read(NAME, most=LARGEST)
    except GoneError:
        return None
    if len(data) > LARGEST:
        raise StoreError(f"{store}/{NAME}: more than {LARGEST:,} bytes, so it is no manifest")
    try:
        return parse_manifest(Path(NAME), data, lambda _, page: read_object(store, page))
    except CacheDamagedError as error:
        what = str(error).partition(". Its copy")[0]
        raise StoreError(
            f"{store}/{what}. Push the cache again from where it is whole, or give another URL."
        ) from None
    except CacheError as error:
        raise StoreError(f"{store}/{error}") from None


def require_manifest(store: Store) -> Manifest:
    """Return the manifest at a store; raise `StoreError` if there is none."""
    manifest = read_manifest(store)
    if manifest is None:
        raise StoreError(
            f"{store}: there is no cache here ({NAME} is missing). Look at the spelling of the "
            f"URL; `frozen-vqa push CACHE --to {store}` puts one there."
        )
    return manifest


def read_object(store: Store, record: Record) -> bytes:
    """Return the bytes of a file; raise `ObjectError` unless they are those that were written."""
    try:
        name = object_name(record)
    except CacheError as error:
        raise ObjectError(f"{store}: {error}") from None

    def whole() -> bytes:
        data = store.read(name, most=record.bytes)
        return data if len(data) == record.bytes and digest(data) == record.xxh3 else b""

    # Once more, because a line may cut an answer or flip a bit of it.
    if data := whole() or whole():
        return data
    raise ObjectError(
        f"{store}/{name}: its bytes are not those that were written (size or digest differs), so "
        f"they were not used. Its owner may remove it, and push the cache from where it is whole."
    )


def require_continued(old: Manifest, new: Manifest, where: object, source: object) -> None:
    """Raise `CacheMismatchError` unless `new` has all that `old` has, which it replaces at `where`.

    The bytes of a shard may differ, because one that was made again is still of the same rows.
    """
    if what := _lost(old, new):
        raise CacheMismatchError(
            f"{where}: it holds another cache than {source}, or more than it ({what} differs), so "
            f"nothing was changed there. Give another place, or remove that cache first."
        )


def is_continued(old: Manifest, new: Manifest) -> bool:
    """Whether `new` has all that `old` has."""
    return not _lost(old, new)


def _lost(old: Manifest, new: Manifest) -> str:
    """Return what of a manifest another one lacks; "" if nothing."""
    if old.is_empty:
        return ""
    ours, theirs = new.spec.settings(), old.spec.settings()
    differing = [name for name in theirs if theirs[name] != ours.get(name)]
    for kind in KINDS:
        kept = [record.names for record in old.shards(kind)]
        if kept != [record.names for record in new.shards(kind)][: len(kept)]:
            differing.append(kind)
    differing += [f"split {name!r}" for name in old.splits if name not in new.splits]
    return next(iter(differing), "")


def side_by_side(
    store: Store, work: Callable[[FileRecord], T], records: Sequence[FileRecord]
) -> Iterator[tuple[FileRecord, T]]:
    """Do some work for each file, several at once; yield each when it is done."""
    largest = max((record.bytes for record in records), default=1)
    threads = ThreadPoolExecutor(connections(largest), thread_name_prefix="store")
    try:
        pending = {threads.submit(work, record): record for record in records}
        for done in as_completed(pending):
            yield pending[done], done.result()
    finally:
        store.stop.set()  # Ctrl-C does not wait for a store that is slow
        threads.shutdown(cancel_futures=True)
        store.stop.clear()


def connections(largest: int) -> int:
    """Return how many objects of at most so many bytes are fetched or sent side by side."""
    return max(1, min(CONNECTIONS, IN_FLIGHT // max(1, largest), 4 * (os.cpu_count() or 1)))
