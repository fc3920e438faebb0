"""Reading from a URL: objects come to a folder of this machine, checked, before they are needed.

    STAGE/s3/BUCKET/FOLDER/cache.json            the manifest, as the store had it
    STAGE/s3/BUCKET/FOLDER/images/DIGEST.h5      an object, named as at the store

A reader takes such a folder for a cache: it maps the files and checks each row, as it does with any
other. The stage takes a bounded share of the disk. What was not used for longest goes first, of
whichever cache. Several processes may share a stage: one fetches an object, and the others wait.
"""

import os
import shutil
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from frozen_vqa.cache.arrivals import Record, register
from frozen_vqa.cache.disk.files import user_caches, write_atomically
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.disk.lock import locked_place
from frozen_vqa.cache.errors import CacheError, StoreError, explain_write_errors
from frozen_vqa.cache.format.manifest import NAME
from frozen_vqa.cache.format.records.files import FOLDERS, KINDS
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.stores.address import PROTOCOLS
from frozen_vqa.cache.stores.copies import (
    LEFTOVER,
    OBJECT,
    connections,
    object_name,
    read_object,
    require_manifest,
)
from frozen_vqa.cache.stores.open_store import open_store

SHARE = 0.5
"""Share of the free disk that a stage takes at most, what it holds already included."""

ADVICE = "Give --stage a folder elsewhere, or make room."

LOOK_SECONDS = 1.0
"""How old what is known of other processes' objects may be when room is made."""

DEAD_SECONDS = 3600.0
"""Age of a half-written object that no living process still writes."""


def default_stage() -> Path:
    """Return the folder of the stage if the user names none; `CacheError` without a home."""
    if caches := user_caches():
        return caches / "frozen-vqa" / "stage"
    raise CacheError(
        "the home folder is not known, and shards of a URL come to a folder there. Give one by "
        "--stage, or set HOME."
    )


def claim_stage(folder: Path, place: str) -> Path:
    """Return FOLDER/PLACE, where a cache or its objects will lie.

    Raise `CacheError` if the folder is somebody else's, or a link in it leads elsewhere.
    """
    with explain_write_errors(folder, CacheError, ADVICE):
        own = OwnFolder(folder, "a stage of caches at URLs", CacheError, "--stage")
        own.claim()
        above = [str(one) for one in PurePath(place).parents][-2::-1]
        own.require_real(*above, place, *(f"{place}/{name}" for name in FOLDERS))
    return path_in(folder, place)


def open_stage(url: str, folder: Path | None = None, *, room: int | None = None) -> Path:
    """Return a folder that stands for the cache at a URL, in this process.

    Args:
        folder: Where stages of all caches are.
        room: Bytes that all of them may take; a share of what is free if None.

    Raises:
        StoreError: if there is no cache, or the store cannot be used.
        CacheError: if the folder of the stage is somebody else's.
    """
    stage = Stage(url, folder or default_stage(), room)
    register(stage.directory, stage)
    return stage.directory


class Stage:
    """Brings the objects of one cache; see `arrivals.Arrivals`."""

    def __init__(self, url: str, folder: Path, room: int | None) -> None:
        self._store = open_store(url)
        self.address, self.folder = str(self._store), folder
        address = self._store.address
        place = f"{address.protocol}/{address.path.strip('/')}"
        self.directory = path_in(folder, place)
        self.gone: list[str] = []
        manifest = require_manifest(self._store)
        claim_stage(folder, place)
        with explain_write_errors(folder, CacheError, ADVICE):
            data = manifest.to_json().encode()
            write_atomically(path_in(self.directory, NAME), data, shared=True)
        self._largest = max(
            (size for kind in KINDS for size in manifest.shards(kind).column("bytes")), default=1
        )
        self._begin(room)

    def __getstate__(self) -> Mapping[str, Any]:
        names = ("_store", "address", "folder", "directory", "_largest", "_room")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__ |= {**state, "gone": []}
        self._begin(state["_room"])

    def _begin(self, room: int | None) -> None:
        self._lock = threading.RLock()
        self._look()
        free = shutil.disk_usage(self.folder).free + sum(self._held.values())
        self._room = int(SHARE * free) if room is None else room
        self._order: deque[Record] = deque()
        self._coming: dict[Path, Future[None]] = {}
        self._unread: dict[Path, int] = {}  # fetched ahead, and not asked for yet
        self._ahead = self._room
        self._threads: ThreadPoolExecutor | None = None
        itself = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_anew(itself()))

    def _look(self) -> None:
        """See what lies in the stage, because other processes bring and use objects as well."""
        self._held: dict[Path, int] = dict(_objects(self.folder))
        self._looked = time.monotonic()

    def expect(self, records: Sequence[Record], *, together: bool = False) -> None:
        """See `Arrivals`."""
        need = sum(record.bytes for record in {r.xxh3: r for r in records}.values())
        if together and need > self._room:
            raise StoreError(
                f"{self.address}: {need:,} bytes of shards are read again and again, and the stage "
                f"{self.folder} takes {self._room:,} at most. Give --stage a folder on a larger "
                f"disk, or read them once with --residency ram or gpu."
            )
        with self._lock:
            self._order = deque(records)
            self._unread.clear()
            # Nothing may push out what waits to be read.
            self._ahead = self._room if need <= self._room else self._room // 2
        self._go_on()

    def bring(self, record: Record) -> Path:
        """See `Arrivals`."""
        path = path_in(self.directory, object_name(record))
        with self._lock:
            coming = self._coming.get(path)
        if coming:
            coming.result()
        if not _is_here(path, record):
            self._fetch(path, record)
        with self._lock:
            self._unread.pop(path, None)
            self._held.pop(path, None)
            self._held[path] = record.bytes
        with suppress(OSError):
            os.utime(path)
        self._go_on()
        return path

    def forget(self, record: Record) -> None:
        """Remove an object that is damaged here, so that it comes again."""
        path_in(self.directory, object_name(record)).unlink(missing_ok=True)

    def _go_on(self) -> None:
        """Begin with the next objects, as many as there are connections and as there is room."""
        with self._lock:
            many = connections(self._largest)
            self._threads = self._threads or ThreadPoolExecutor(many, thread_name_prefix="stage")
            while self._order and len(self._coming) < many:
                record = self._order[0]
                path = path_in(self.directory, object_name(record))
                if sum(self._unread.values()) + record.bytes > self._ahead:
                    return
                self._order.popleft()
                if path in self._coming or _is_here(path, record):
                    continue
                self._unread[path] = record.bytes
                with suppress(RuntimeError):  # Python ends
                    self._coming[path] = self._threads.submit(self._fetch_ahead, path, record)

    def _fetch_ahead(self, path: Path, record: Record) -> None:
        try:
            with suppress(CacheError):  # whoever needs it tries again, and says why
                self._fetch(path, record)
        finally:
            with self._lock:
                self._coming.pop(path, None)
            self._go_on()

    def _fetch(self, path: Path, record: Record) -> None:
        # One process alone fetches an object.
        with locked_place(self.folder / ".lock", int(record.xxh3[:12], 16)):
            if _is_here(path, record):
                return
            data = read_object(self._store, record)
            with explain_write_errors(path, StoreError, ADVICE):
                self._make_room(path, len(data))
                write_atomically(path, data, shared=True, lasting=False)

    def _make_room(self, new: Path, need: int) -> None:
        with self._lock:
            if need > self._room:
                raise StoreError(
                    f"{self.address}: a shard has {need:,} bytes, and the stage {self.folder} "
                    f"takes {self._room:,} at most. {ADVICE}"
                )
            total = sum(self._held.values())
            if total + need > self._room or time.monotonic() > self._looked + LOOK_SECONDS:
                self._look()
                total = sum(self._held.values())
            for path in [path for path in self._held if path not in self._unread]:
                if total + need <= self._room:
                    break
                total -= self._held.pop(path)
                path.unlink(missing_ok=True)
                self.gone.append(path.stem)
            self._held[new] = need


def _objects(folder: Path) -> list[tuple[Path, int]]:
    """Return all objects of a stage and their sizes, what was used last at the end.

    What a killed process had not finished goes, but not what another one is writing now.
    """
    found, long_ago = [], time.time() - DEAD_SECONDS
    roots = [path for path in map(folder.joinpath, PROTOCOLS) if not path.is_symlink()]
    for path in chain.from_iterable(root.rglob("*.*") for root in roots):
        name = f"{path.parent.name}/{path.name}"  # no cache calls a shard by its digest
        if LEFTOVER.fullmatch(name):
            with suppress(OSError):
                status = path.lstat()
                if OBJECT.fullmatch(name):
                    found.append((status.st_mtime, path, status.st_size))
                elif status.st_mtime < long_ago:
                    path.unlink()
    return [(path, size) for _, path, size in sorted(found)]


def _start_anew(stage: Stage | None) -> None:
    """Forget threads and locks of the process that this one is a fork of."""
    if stage:
        stage._lock, stage._coming, stage._threads = threading.RLock(), {}, None


def _is_here(path: Path, record: Record) -> bool:
    try:
        return path.lstat().st_size == record.bytes
    except OSError:
        return False
