"""Fetches a data set into a folder: several files at once, each unpacked when it is whole.

    DIR/.download/NAME-FILE.partial   what has come of a file
    DIR/.download/NAME-FILE.done      what a finished file left in DIR
    DIR/…                             the files of the data set, as its source reads them

Nothing in DIR is replaced. What is there already stays, and has to be the same.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from frozen_vqa.cache.disk.files import make_directory, open_regular, read_file, write_atomically
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.disk.lock import sole_writer
from frozen_vqa.cache.errors import CacheError, explain_write_errors
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import decode, finite_json
from frozen_vqa.pipeline.download.catalogue import DataSet, RemoteFile
from frozen_vqa.pipeline.download.transfer import Transfer
from frozen_vqa.pipeline.download.unpack import move, require_folders, unpack
from frozen_vqa.pipeline.errors import ArchiveError, DownloadError
from frozen_vqa.pipeline.system.console import Advance, progress, size
from frozen_vqa.pipeline.system.disk import free_bytes
from frozen_vqa.pipeline.system.texts import to_json

T = TypeVar("T")

AT_ONCE = 4
"""Files that are fetched at a time."""

WORK = ".download"
LARGEST_RECORD = 512 << 20
MB = 1_000_000


@dataclass(frozen=True)
class Done:
    """A file that is whole in its place, or the files that were in it."""

    url: str
    bytes: int
    files: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Step:
    """A file of the plan: its size, how much of it has come, and whether all is in its place."""

    remote: RemoteFile
    bytes: int
    so_far: int
    done: bool

    @property
    def missing(self) -> int:
        """Bytes that the disk still has to take: those to come, and as many when it is unpacked.

        Pictures hardly grow then. Of texts, which do, the sizes are looked at when they are here.
        """
        if self.done:
            return 0
        return max(0, self.bytes - self.so_far) + (self.bytes if self.remote.packed else 0)


class _Megabytes:
    """Turns the bytes of several threads into whole megabytes of a progress bar."""

    def __init__(self, done: int, advance: Advance) -> None:
        self._bytes, self._shown, self._advance = done, done // MB, advance
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            now = self._bytes // MB
            if now != self._shown:
                self._advance(now - self._shown)
                self._shown = now


@dataclass
class Download:
    """A data set, by its name in the catalogue, on its way into a folder.

    Raises:
        DownloadError: if the folder is a link, or the one of its work is not ours.
    """

    name: str
    data: DataSet
    to: Path
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.to.is_symlink():
            raise DownloadError(
                f"{self.to}: this is a link, and nothing is fetched through one. Give --to the "
                f"folder itself."
            )
        self._own = OwnFolder(path_in(self.to, WORK), "downloads", DownloadError, "--to")
        self._own.require()
        if self._own.path.is_symlink():
            raise DownloadError(f"{self._own.path}: this is a link. Give --to another folder.")
        self._transfer = Transfer(self._own.path, f"{self.name}-", self._stop)

    def plan(self) -> list[Step]:
        """Find out what is there and what is missing; of the net, only sizes are asked for."""
        return self._all(self._step, self.data.files)

    def run(self, plan: Sequence[Step]) -> None:
        """Fetch and unpack what is missing; a file that fails stops no other.

        Raises:
            DownloadError: about the first file that failed.
        """
        self.require_room(sum(step.missing for step in plan))
        left = [step for step in plan if not step.done]
        if not left:
            return
        with explain_write_errors(self.to, DownloadError, "Give --to another folder."):
            make_directory(self.to)
            self._own.claim()
            with sole_writer(self._own.path, what="download"):
                for step in left:  # before any thread writes
                    self._own.note(*self._transfer.names(step.remote), self._done(step.remote).name)
                so_far, total = (
                    sum(n) for n in zip(*((s.so_far, s.bytes) for s in left), strict=True)
                )
                with progress("MB", max(1, total // MB), done=so_far // MB) as advance:
                    counted = _Megabytes(so_far, advance)
                    self._all(lambda step: self._fetch(step, counted), left)

    def require_room(self, need: int) -> None:
        """Raise `DownloadError` unless the disk has room."""
        free = free_bytes(self.to)
        if need > free:
            raise DownloadError(
                f"{self.to}: {size(need)} are needed, and {size(free)} are free on this disk. Make "
                f"room, or give --to a folder on another disk."
            )

    def _all(self, work: Callable[..., T], items: Sequence[object]) -> list[T]:
        """Return what `work` returns for each item, several at a time."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="download") as threads:
            futures = [threads.submit(work, item) for item in items]
            try:
                failed = [error for error in (one.exception() for one in futures) if error]
            except BaseException:  # Ctrl-C or SIGTERM
                self._stop.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        bugs = [error for error in failed if not isinstance(error, DownloadError | CacheError)]
        if bugs:
            raise bugs[0]
        if failed:
            more = f" {len(failed) - 1} more files failed." if len(failed) > 1 else ""
            raise DownloadError(f"{failed[0]}{more}")
        return [one.result() for one in futures]

    def _step(self, remote: RemoteFile) -> Step:
        if done := self._is_done(remote):
            return Step(remote, done.bytes, done.bytes, True)
        whole = self._transfer.size(remote)
        place = self._place(remote)
        if not remote.packed and os.path.lexists(place):
            self._require_same(remote, whole, place)
            return Step(remote, whole, whole, True)
        return Step(remote, whole, min(whole, self._transfer.so_far(remote)), False)

    def _fetch(self, step: Step, advance: Callable[[int], None]) -> None:
        remote = step.remote
        path = self._transfer.fetch(remote, advance)
        whole, place = path.stat().st_size, self._place(remote)
        if remote.packed:
            folder = path_in(self.to, remote.into) if remote.into else self.to
            try:
                found = unpack(
                    path,
                    folder,
                    remote,
                    temporary=self._transfer.unpacking(remote),
                    stop=self._stop,
                    room=self.require_room,
                )
            except ArchiveError:  # or the next command would find the same one
                self._transfer.forget(remote)
                raise
        else:
            require_folders(place, self.to)
            make_directory(place.parent)
            move(path, place)
            found = [(remote.name, whole)]
        os.sync()  # before the record says so; of each file it would take hours
        record = Done(remote.url, whole, tuple(found))
        write_atomically(self._done(remote), to_json(asdict(record)).encode())
        self._transfer.forget(remote)

    def _place(self, remote: RemoteFile) -> Path:
        return path_in(self.to, f"{remote.into}/{remote.name}" if remote.into else remote.name)

    def _done(self, remote: RemoteFile) -> Path:
        return path_in(self._own.path, f"{self.name}-{remote.name}.done")

    def _is_done(self, remote: RemoteFile) -> Done | None:
        """Return the record of a file if all that it names is there."""
        try:
            data = read_file(self._done(remote), most=LARGEST_RECORD, follow=False)
            record = decode(Done, finite_json(data))
            folder = path_in(self.to, remote.into) if remote.into else self.to
            sizes = [(path_in(folder, name).lstat().st_size, count) for name, count in record.files]
        except (OSError, ValueError, TypeError, CacheError):
            return None
        whole = record.url == remote.url and remote.bytes in (None, record.bytes)
        return record if whole and all(found == count for found, count in sizes) else None

    def _require_same(self, remote: RemoteFile, whole: int, place: Path) -> None:
        """Raise `DownloadError` if a file that is there has another size or another digest."""
        try:
            with open_regular(place, follow=False) as file:
                same = os.fstat(file.fileno()).st_size == whole
                if same and remote.sha256:
                    same = hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
        except OSError:  # a folder, a link
            same = False
        if not same:
            raise DownloadError(
                f"{place}: another file than the one of the data set is there, and it was left as "
                f"it is. Move it elsewhere, or give --to another folder."
            )
