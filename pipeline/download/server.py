"""What a server says about a file: the file itself, its version, or why there is none.

Only addresses of the web are followed, and none without encryption from one with it.
"""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache

import httpx2

from frozen_vqa.pipeline.download.catalogue import RemoteFile
from frozen_vqa.pipeline.errors import DownloadError

STALLED_SECONDS = 10.0
"""How long a server may send nothing."""

REDIRECTS = 10
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


class PassingError(Exception):
    """The next try may succeed; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@contextmanager
def answer(remote: RemoteFile, asked: dict[str, str]) -> Iterator[httpx2.Response]:
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
            client.stream("GET", remote.url, headers=headers) as found,
        ):
            _require_file(remote, found)
            yield found
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
        raise PassingError(f"the server sent nothing for {STALLED_SECONDS:.0f} s") from None
    except httpx2.HTTPError as error:
        raise PassingError(f"the connection failed ({error or type(error).__name__})") from None


@cache
def _certificates() -> ssl.SSLContext:
    """Return those of this machine, which take a while to read."""
    return httpx2.create_ssl_context()


def _require_file(remote: RemoteFile, answer: httpx2.Response) -> None:
    code = answer.status_code
    if code in PASSING:
        raise PassingError(f"the server answers with code {code}", _retry_after(answer))
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


def version_of(remote: RemoteFile, answer: httpx2.Response, start: int) -> Version:
    """Return what an answer stands for; raise `DownloadError` if its size is not that published.

    `start` is where the part that was asked for begins.
    """
    said = answer.headers.get("content-length", "")
    if answer.status_code == 206:
        part, _, said = answer.headers.get("content-range", "").partition("/")
        if not part.startswith(f"bytes {start}-"):
            raise PassingError(f"the server sends another part than that from byte {start:,} on")
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
