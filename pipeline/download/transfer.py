"""One file from a server to the disk: resumed where it was cut, and checked before it counts.

    FOLDER/NAME.partial   what has come so far
    FOLDER/NAME.version   whose bytes these are: the address, the size and the server's mark of the
                          version (ETag, Last-Modified), written before the first byte

A cut file goes on only if the server says that it still has the same version. Else it begins again.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx2

from frozen_vqa.cache.disk.files import TEMPORARY, open_regular, read_file, write_atomically
from frozen_vqa.cache.errors import CacheError, explain_write_errors
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import decode, finite_json
from frozen_vqa.pipeline.download.catalogue import RemoteFile
from frozen_vqa.pipeline.download.server import PassingError, Version, answer, version_of
from frozen_vqa.pipeline.errors import DownloadError
from frozen_vqa.pipeline.system.texts import to_json

T = TypeVar("T")

TRIES = 5
"""Tries in a row that bring no byte; then the command ends, and the next one goes on."""

LONGEST_WAIT = 120.0
"""Seconds that a server may ask to wait (Retry-After)."""

FIRST_WAIT = 1.0
"""Seconds before the second try; each further wait is twice as long."""

LARGEST_RECORD = 1 << 16


class Stopped(Exception):
    """Another part of the command has ended."""


class Transfer:
    """Fetches files into a folder of ours, under `prefix` and their names; `stop` ends all soon."""

    def __init__(self, folder: Path, prefix: str, stop: threading.Event) -> None:
        self._folder, self._prefix, self._stop = folder, prefix, stop

    def names(self, remote: RemoteFile) -> list[str]:
        """Return what is written in the folder on the way of a file, but for unfinished files."""
        name = self._prefix + remote.name
        return [name, f"{name}.version", f"{name}.unpacking"]

    def unpacking(self, remote: RemoteFile) -> Path:
        """Return where a file of an archive is while it is written."""
        return path_in(self._folder, self.names(remote)[2])

    def size(self, remote: RemoteFile) -> int:
        """Return the bytes of a file; where none are published, the server is asked."""
        if remote.bytes is not None:
            return remote.bytes
        return self._insist(remote, partial(self._ask, remote)).bytes

    def so_far(self, remote: RemoteFile) -> int:
        """Return the bytes that have come in an earlier command."""
        try:
            return self._partial(remote).lstat().st_size
        except OSError:
            return 0

    def fetch(self, remote: RemoteFile, advance: Callable[[int], None]) -> Path:
        """Return the whole file; `advance` learns of new bytes, and of lost ones below zero.

        Raises:
            DownloadError: if the server does not give it, or gives another one; what has come
                stays for the next command, unless it is wrong.
        """
        path = self._partial(remote)
        with explain_write_errors(path, DownloadError, "Make room and run the command again."):
            self._insist(remote, partial(self._continue, remote, path, advance))
            if remote.sha256:
                self._require_digest(remote, path)
        return path

    def forget(self, remote: RemoteFile) -> None:
        """Remove what came of a file."""
        self._partial(remote).unlink(missing_ok=True)
        self._record(remote).unlink(missing_ok=True)
        self.unpacking(remote).unlink(missing_ok=True)

    def _partial(self, remote: RemoteFile) -> Path:
        return path_in(self._folder, self.names(remote)[0] + TEMPORARY)

    def _record(self, remote: RemoteFile) -> Path:
        return path_in(self._folder, self.names(remote)[1])

    def _insist(self, remote: RemoteFile, work: Callable[[], T]) -> T:
        """Return what `work` does at last; raise `DownloadError` after too many idle tries."""
        tries, before = 0, self.so_far(remote)
        while True:
            try:
                return work()
            except PassingError as error:
                now = self.so_far(remote)
                tries = 1 if now > before else tries + 1
                before = now
                if tries >= TRIES or (error.wait or 0) > LONGEST_WAIT:
                    wait = f" It asks to wait {error.wait:.0f} seconds." if error.wait else ""
                    raise DownloadError(
                        f"{remote.url}: {error}.{wait} What has come is kept: run the same "
                        f"command again later to go on."
                    ) from None
                if self._stop.wait(
                    error.wait if error.wait is not None else FIRST_WAIT * 2 ** (tries - 1)
                ):
                    raise Stopped from None

    def _ask(self, remote: RemoteFile) -> Version:
        with answer(remote, {"Range": "bytes=0-0"}) as found:
            return version_of(remote, found, 0)

    def _continue(self, remote: RemoteFile, path: Path, advance: Callable[[int], None]) -> None:
        """Fetch what is missing, in one request."""
        known, there = self._known(remote), self.so_far(remote)
        if there and known is None:
            there = self._begin_again(path, there, advance)
        if known and there == known.bytes:
            return
        asked = {"Range": f"bytes={there}-", "If-Range": known.mark} if known and there else {}
        with answer(remote, asked) as found:
            if found.status_code == 416 or (
                found.status_code == 206
                and known
                and not known.fits(version_of(remote, found, there))
            ):
                self._begin_again(path, there, advance)
                raise PassingError("the file has changed on the server", 0)
            if found.status_code == 200 and there:
                there = self._begin_again(path, there, advance)
            version = known if there and known else version_of(remote, found, there)
            write_atomically(self._record(remote), to_json(asdict(version)).encode())
            self._write(remote, path, there, version.bytes, found, advance)

    def _known(self, remote: RemoteFile) -> Version | None:
        """Return whose bytes have come; None if nothing proves it."""
        try:
            found = decode(
                Version, finite_json(read_file(self._record(remote), most=LARGEST_RECORD))
            )
        except (OSError, ValueError, TypeError, CacheError):
            return None
        whole = found.url == remote.url and remote.bytes in (None, found.bytes)
        return found if whole and found.mark else None

    def _begin_again(self, path: Path, there: int, advance: Callable[[int], None]) -> int:
        path.unlink(missing_ok=True)
        advance(-there)
        return 0

    def _write(
        self,
        remote: RemoteFile,
        path: Path,
        there: int,
        whole: int,
        found: httpx2.Response,
        advance: Callable[[int], None],
    ) -> None:
        # A link that somebody has put there is not followed.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        with os.fdopen(handle, "wb", buffering=0) as file:
            for piece in found.iter_raw():
                if self._stop.is_set():
                    raise Stopped
                there += len(piece)
                if there > whole:
                    self.forget(remote)
                    raise DownloadError(
                        f"{remote.url}: the server sends more than the {whole:,} bytes that were "
                        f"announced. Run the command again later."
                    )
                left = memoryview(piece)
                while left:
                    left = left[file.write(left) :]
                advance(len(piece))
            os.fsync(file.fileno())
        if there < whole:
            raise PassingError(f"the connection ended after {there:,} of {whole:,} bytes")

    def _require_digest(self, remote: RemoteFile, path: Path) -> None:
        with open_regular(path, follow=False) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != remote.sha256:
            self.forget(remote)
            raise DownloadError(
                f"{remote.url}: the bytes that came have the SHA-256 {found}, and {remote.sha256} "
                f"was published, so they were thrown away. Run the command again; if that does not "
                f"help, the owners have changed the file."
            )
