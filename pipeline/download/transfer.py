"""One file from a server to the disk: resumed where it was cut, and checked before it counts.

    FOLDER/NAME.partial   what has come so far
    FOLDER/NAME.version   whose bytes these are: the address, the size and the server's mark of the
                          version (ETag, Last-Modified), written before the first byte

A cut file goes on only if the server says that it still has the same version. Else it begins again.
"""

import hashlib
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import httpx2

from frozen_vqa.cache.disk.files import TEMPORARY, open_regular, read_file, write_atomically
from frozen_vqa.cache.errors import CacheError, explain_write_errors
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import decode, finite_json
from frozen_vqa.pipeline.download.catalogue import RemoteFile
from frozen_vqa.pipeline.errors import DownloadError
from frozen_vqa.pipeline.system.texts import to_json

T = TypeVar("T")

STALLED_SECONDS = 20.0
"""How long a server may send nothing."""

TRIES = 5
"""Tries in a row that bring no byte; then the command ends, and the next one goes on."""

LONGEST_WAIT = 120.0
"""Seconds that a server may ask to wait (Retry-After)."""

REDIRECTS = 10
FIRST_WAIT = 1.0
"""Seconds before the second try; each further wait is twice as long."""

LARGEST_RECORD = 1 << 16
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Codes of servers that may answer the next time."""


@dataclass(frozen=True)
class Version:
    """Which bytes an address stands for."""

    url: str
    bytes: int
    etag: str = ""
    changed: str = ""

    def fits(self, other: "Version") -> bool:
        """Whether a part of `other` may be one of this; servers leave out marks beside a part."""
        return self.bytes == other.bytes and all(
            new in ("", old)
            for old, new in ((self.etag, other.etag), (self.changed, other.changed))
        )

    @property
    def mark(self) -> str:
        """What `If-Range` takes; "" if the server gives nothing that proves a version."""
        return self.changed if not self.etag or self.etag.startswith("W/") else self.etag


class Stopped(Exception):
    """Another part of the command has ended."""


class _PassingError(Exception):
    """The next try may succeed; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


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
            except _PassingError as error:
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
        with self._answer(remote, {"Range": "bytes=0-0"}) as answer:
            return _version(remote, answer, 0)

    def _continue(self, remote: RemoteFile, path: Path, advance: Callable[[int], None]) -> None:
        """Fetch what is missing, in one request."""
        known, there = self._known(remote), self.so_far(remote)
        if there and known is None:
            there = self._begin_again(path, there, advance)
        if known and there == known.bytes:
            return
        asked = {"Range": f"bytes={there}-", "If-Range": known.mark} if known and there else {}
        with self._answer(remote, asked) as answer:
            if answer.status_code == 416 or (
                answer.status_code == 206
                and known
                and not known.fits(_version(remote, answer, there))
            ):
                self._begin_again(path, there, advance)
                raise _PassingError("the file has changed on the server", 0)
            if answer.status_code == 200 and there:
                there = self._begin_again(path, there, advance)
            version = known if there and known else _version(remote, answer, there)
            write_atomically(self._record(remote), to_json(asdict(version)).encode())
            self._write(remote, path, there, version.bytes, answer, advance)

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
        answer: httpx2.Response,
        advance: Callable[[int], None],
    ) -> None:
        # A link that somebody has put there is not followed.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        with os.fdopen(handle, "wb", buffering=0) as file:
            for piece in answer.iter_raw():
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
            raise _PassingError(f"the connection ended after {there:,} of {whole:,} bytes")

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

    @contextmanager
    def _answer(self, remote: RemoteFile, asked: dict[str, str]) -> Iterator[httpx2.Response]:
        """Ask for a file; yield the answer if it is one, or raise."""
        secure = remote.url.startswith("https:")

        def require_secure(request: httpx2.Request) -> None:
            if secure and request.url.scheme == "http":
                raise DownloadError(
                    f"{remote.url}: the server leads from https to {request.url.host} without "
                    f"encryption, which is not followed. Get the file from its owners by hand."
                )

        headers = {"Accept-Encoding": "identity", "User-Agent": "frozen-vqa", **asked}
        try:
            with (
                httpx2.Client(
                    follow_redirects=True,
                    max_redirects=REDIRECTS,
                    timeout=STALLED_SECONDS,
                    verify=_certificates(),
                    event_hooks={"request": [require_secure]},
                ) as client,
                client.stream("GET", remote.url, headers=headers) as answer,
            ):
                _require_file(remote, answer)
                yield answer
        except httpx2.TooManyRedirects:
            raise DownloadError(
                f"{remote.url}: the server leads from address to address without end. Get the file "
                f"from its owners by hand."
            ) from None
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise DownloadError(
                f"{remote.url}: the server leads to an address that is none of the web ({error}), "
                f"which is not followed."
            ) from None
        except httpx2.TimeoutException:
            raise _PassingError(f"the server sent nothing for {STALLED_SECONDS:.0f} s") from None
        except httpx2.HTTPError as error:
            raise _PassingError(
                f"the connection failed ({error or type(error).__name__})"
            ) from None


@cache
def _certificates() -> ssl.SSLContext:
    """Return those of this machine, which take a while to read."""
    return httpx2.create_ssl_context()


def _require_file(remote: RemoteFile, answer: httpx2.Response) -> None:
    code = answer.status_code
    if code in PASSING:
        raise _PassingError(f"the server answers with code {code}", _retry_after(answer))
    if code not in (200, 206) and not (code == 416 and "If-Range" in answer.request.headers):
        why = {404: "does not have this file", 410: "does not have this file any more"}.get(
            code, "asks for a login or refuses" if code in (401, 403) else "gives no file"
        )
        raise DownloadError(
            f"{remote.url}: the server {why} (code {code}). The address may have changed: look at "
            f"the page of the data set."
        )
    packing = answer.headers.get("content-encoding", "identity").lower()
    if packing not in ("", "identity") and not remote.name.endswith(".gz"):
        raise DownloadError(
            f"{remote.url}: the server sends it packed as {packing!r:.40}, although that was not "
            f"asked for. Run the command again later, or get the file by hand."
        )


def _version(remote: RemoteFile, answer: httpx2.Response, start: int) -> Version:
    """Return what an answer stands for; raise `DownloadError` if its size is not that published.

    `start` is where the part that was asked for begins.
    """
    said = answer.headers.get("content-length", "")
    if answer.status_code == 206:
        part, _, said = answer.headers.get("content-range", "").partition("/")
        if not part.startswith(f"bytes {start}-"):
            raise _PassingError(f"the server sends another part than that from byte {start:,} on")
    whole = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else None
    if whole is None:
        whole = remote.bytes
    if whole is None:
        raise DownloadError(
            f"{remote.url}: the server does not say how many bytes the file has, so nothing can "
            f"tell when it is whole. Get it by hand."
        )
    if remote.bytes not in (None, whole):
        raise DownloadError(
            f"{remote.url}: the server has {whole:,} bytes, and {remote.bytes:,} were published; "
            f"the file has changed, or the answer is none of its own. Look at the page of the data "
            f"set."
        )
    etag, changed = (answer.headers.get(name, "")[:200] for name in ("etag", "last-modified"))
    return Version(remote.url, whole, etag, changed)


def _retry_after(answer: httpx2.Response) -> float | None:
    said = answer.headers.get("retry-after", "")
    if said.isascii() and said.isdigit() and len(said) < 10:
        return float(said)
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    return None
