"""Pictures that lie in a bucket or on the Hub: each is read when it is decoded, and kept nowhere.

A picture that is gone, or that alone is refused, is left out, as a file is that cannot be read. A
store that gives no answer, or no access any more, stops the command: else whatever comes after
would be listed as unreadable for good.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from frozen_vqa.cache.stores.address import parse_object
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.store import GoneError, RefusedError, Store
from frozen_vqa.pipeline.errors import ImageError

MAX_BYTES = 500_000_000
"""Largest file of a picture that is read, wherever it lies; an uncompressed 16-bit RGBA picture of
50 megapixels, the largest that is decoded, has 400 MB."""

READERS = 64
"""Threads that read and decode such pictures: each waits most of the time for an answer."""


@dataclass(slots=True)
class _Bucket:
    """An open store of this process, and the name of an object that it gave."""

    store: Store
    given: str = ""


_buckets: dict[str, _Bucket] = {}
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """One picture at a URL; raise `StoreError` for a URL that is not taken.

    It is the whole object, or `size` bytes of it from `first` on, as in a tar file.
    """

    url: str
    first: int = 0
    size: int | None = None
    _root: str = field(init=False, repr=False)
    _name: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        root, name = parse_object(self.url)
        object.__setattr__(self, "url", f"{root}/{name}")  # in its only spelling
        object.__setattr__(self, "_root", str(root))
        object.__setattr__(self, "_name", name)

    def __str__(self) -> str:
        return self.url

    @property
    def place(self) -> str:
        """What tells it from every other one."""
        return self.url if self.size is None else f"{self.url}[{self.first}:+{self.size}]"

    def read(self, most: int) -> bytes:
        """Return the picture's bytes, or the first `most + 1` if it has more.

        Raises:
            ImageError: if the store has no such object, does not give it, or it ends too early.
            StoreError: if the store cannot be used.
        """
        if self.size is None:
            return self._read(most)
        wanted = min(self.size, most + 1)
        data = self.read_up_to(wanted)
        if len(data) < wanted:
            raise ImageError("the file that holds it ends too early")
        return data

    def read_up_to(self, count: int) -> bytes:
        """Return some bytes from `first` on, fewer at the end of the object; raise as `read`."""
        return self._read(count - 1) if count else b""

    def _read(self, most: int) -> bytes:
        bucket = _open(self._root)
        try:
            data = bucket.store.read(self._name, most=most, first=self.first)
        except GoneError:
            raise ImageError("the store has no such object") from None
        except RefusedError:
            if not bucket.given:
                raise
            bucket.store.read(bucket.given, most=0)  # or say that nothing is given any more
            raise ImageError("the store gives no access to it, but to others") from None
        bucket.given = self._name
        return data

    def is_there(self) -> bool:
        """Whether the store gives the picture; its first byte is asked for."""
        try:
            self.read(0)
        except ImageError:
            return False
        return True


@contextmanager
def no_waits() -> Iterator[None]:
    """Let no reader wait in the block for a store that may answer later."""
    stores = [bucket.store for bucket in [*_buckets.values()]]
    for store in stores:
        store.stop.set()
    try:
        yield
    finally:
        for store in stores:
            store.stop.clear()


def is_taken(path: str) -> bool:
    """Whether a path is a URL of a kind at which pictures may lie; a file here has none."""
    protocol, colon, _ = path.partition("://")
    return bool(colon) and protocol.lower() in ("s3", "gs", "hf", "memory")


def _open(root: str) -> _Bucket:
    with _opening:
        if root not in _buckets:
            _buckets[root] = _Bucket(open_store(root))
        return _buckets[root]
