"""A store that fsspec knows: S3 and what speaks its language, Google Cloud Storage, memory."""

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.stores.address import Address
from frozen_vqa.cache.stores.store import GoneError, PassingError, RefusedError, Store, shorten

T = TypeVar("T")

WHOLE = 2 << 30
"""Bytes that go in one request. In parts, a killed upload would leave those that had come."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "use_listings_cache": False,
        "config_kwargs": {
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "max_pool_connections": 64,  # pictures are read by as many threads
        },
    },
    "gs": {"use_listings_cache": False},
}
LIBRARIES = {"aiobotocore", "aiohttp", "asyncio", "botocore", "gcsfs", "google", "requests"}
"""Packages whose own errors tell of the network or the store."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BucketStore(Store):
    """Objects in a bucket; raises `StoreError` if a package for it is not installed."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._process, self._opened = os.getpid(), _open(address.protocol)

    @property
    def _fs(self) -> Any:
        """The file system of this process; a fork must not use the threads of another."""
        if self._process != os.getpid():
            self._process, self._opened = os.getpid(), _open(self.address.protocol)
        return self._opened

    def sizes(self, folder: str) -> Mapping[str, int]:
        root = self._path("")
        try:
            found = self._ask(folder, lambda: self._fs.find(self._path(folder), detail=True))
        except GoneError:
            return {}
        return {name[len(root) :]: one.get("size") or 0 for name, one in found.items()}

    def read(self, name: str, *, most: int, first: int = 0) -> bytes:
        path = self._path(name)

        def request() -> bytes:
            try:
                return bytes(self._fs.cat_file(path, start=first, end=first + most + 1))
            except (OSError, ValueError) as error:
                if "satisfiable" not in str(error):
                    raise
                return b""  # it has no byte there

        return self._ask(name, request)

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._put(name, data, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, data: bytes) -> None:
        self._put(name, data, mode="overwrite")

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(GoneError):
                self._ask(name, partial(self._fs.rm_file, self._path(name)))

    def _put(self, name: str, data: bytes, *, mode: str) -> None:
        path = self._path(name)
        self._ask(name, lambda: self._fs.pipe_file(path, data, mode=mode, chunksize=WHOLE))

    def _path(self, name: str) -> str:
        return f"{self._fs._strip_protocol(str(self.address))}/{name}"

    def _ask(self, name: str, request: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return request()
            except Exception as error:
                raise self._explain(name, error) from None

        return self.insist(name, once)

    def _explain(self, name: str, error: Exception) -> Exception:
        """Return what an error of a library means; a mistake of ours stays what it is."""
        where = f"{self}/{name}".rstrip("/")
        if isinstance(error, FileExistsError):
            return error
        if isinstance(error, FileNotFoundError):
            return GoneError(f"{where}: the store has no such object ({shorten(error)})")
        no_credentials = "Credentials" in type(error).__name__
        if isinstance(error, PermissionError) or no_credentials:
            return (StoreError if no_credentials else RefusedError)(
                f"{where}: the store gives no access ({shorten(error)}). Log in as its own tools "
                f"do (AWS_PROFILE, `gcloud auth application-default login`), or ask its owner."
            )
        if isinstance(error, OSError) and error.errno in FULL:
            return StoreError(
                f"{where}: the store is full ({shorten(error)}). Make room, and run the same "
                f"command again to go on."
            )
        ours = not isinstance(error, OSError | TimeoutError)
        if ours and type(error).__module__.partition(".")[0] not in LIBRARIES:
            return error
        return PassingError(shorten(error))


def _open(protocol: str) -> Any:
    try:
        import fsspec

        opened = fsspec.filesystem(protocol, skip_instance_cache=True, **OPTIONS.get(protocol, {}))
    except ImportError:
        raise StoreError(
            f"{protocol}://…: a package for this store is not installed. Install it: "
            f"pip install 'frozen-vqa[{protocol}]'"
        ) from None
    if protocol == "s3":
        opened.retries = 1  # ours are counted and bounded
    return opened
