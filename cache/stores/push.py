"""A cache to a URL: what the store lacks is sent, and the manifest comes last.

Killed at any instant, the store holds what it held before, and some objects more. The next push
finds them by their names, sends only what is missing, and removes objects that no manifest names.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.disk.integrity import require_whole
from frozen_vqa.cache.errors import CacheDamagedError, explain_read_errors, remedy
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.manifest import NAME, Manifest
from frozen_vqa.cache.format.records.files import FOLDERS, FileRecord
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.stores.copies import (
    LEFTOVER,
    object_name,
    read_manifest,
    require_continued,
    side_by_side,
)
from frozen_vqa.cache.stores.lease import sole_writer_at
from frozen_vqa.cache.stores.store import GoneError, Store

CARD = "README.md"
LARGEST_CARD = 1 << 20


@dataclass(frozen=True)
class Pushed:
    """What is there after a push, and what it sent; equal files are one object."""

    files: int
    bytes: int
    sent: int
    sent_bytes: int


def push_cache(
    directory: Path,
    manifest: Manifest,
    store: Store,
    *,
    card: bytes,
    mark: bytes,
    advance: Callable[[int], None],
    held: Callable[[], None] | None = None,
    whole: bool = True,
) -> Pushed:
    """Make the store hold a cache; a card without our `mark` stays as its author wrote it.

    `advance` learns of the bytes of each file that is there. `held` is what `sole_writer_at`
    yielded, if the caller holds the lease. A cache that is not `whole` yet may need the objects
    that its manifest does not name, so they stay.

    Raises:
        CacheMismatchError: if another cache is there.
        CacheBusyError: if another process writes there.
        CacheDamagedError: if a file is not what was written; it is not sent.
        StoreError: if the store cannot be used.
    """
    require_whole(directory, manifest)
    with nullcontext(held) if held else sole_writer_at(store) as require:
        there = read_manifest(store)
        if there:
            require_continued(there, manifest, store, directory)
        sizes = {name: size for folder in FOLDERS for name, size in store.sizes(folder).items()}
        files = {object_name(record): record for record in (*manifest.files, *manifest.pages)}
        lacks = [one for name, one in files.items() if sizes.get(name) != one.bytes]
        store.remove([name for name in map(object_name, lacks) if name in sizes])  # cut ones
        advance(manifest.bytes - sum(record.bytes for record in lacks))
        for record, _ in side_by_side(store, lambda one: _send(directory, store, one), lacks):
            advance(record.bytes)
        if _is_ours(store, mark):
            store.replace(CARD, card)
        require()
        store.replace(NAME, manifest.to_json().encode())
        left = [name for name in sizes if LEFTOVER.fullmatch(name) and name not in files]
        store.remove(left if whole else [])
        store.commit()
    found = [sum(record.bytes for record in some) for some in (files.values(), lacks)]
    return Pushed(len(files), found[0], len(lacks), found[1])


def _send(directory: Path, store: Store, record: FileRecord) -> None:
    path = path_in(directory, record.file)
    with explain_read_errors(path, CacheDamagedError):
        data = read_file(path, most=record.bytes)
    if digest(data) != record.xxh3:
        raise CacheDamagedError(
            f"{path}: its bytes are not those that were written (digest differs), so it is not "
            f"given to others. {remedy(directory)}"
        )
    store.create(object_name(record), data)


def _is_ours(store: Store, mark: bytes) -> bool:
    """Whether the store has no card, or one that may be written again."""
    try:
        found = store.read(CARD, most=LARGEST_CARD)
    except GoneError:
        return True
    return mark in found or not found.strip()
