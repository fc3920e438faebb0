"""What every store does: whole objects below one address, few tries, one sentence a fault."""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from frozen_vqa.cache.errors import ObjectError, StoreError, without_secrets
from frozen_vqa.cache.stores.address import Address

T = TypeVar("T")

TRIES = 5
"""Times that a request is made at most; the libraries below are told to make each once."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the second try; each further wait is twice as long, up to the longest."""

_QUERY = re.compile(r"\?\S+")
"""Where a library's message may hold a token under any name."""


class GoneError(ObjectError):
    """There is no object of this name, or no such bucket."""


class RefusedError(StoreError):
    """The store gives no access to an object, or to none any more."""


class PassingError(Exception):
    """The next try may succeed."""


class Store(ABC):
    """Objects by their names, such as "images/0123.h5"; any number of threads may use one."""

    commits = False
    """Whether what is created and replaced shows together, by `commit`; else each at once."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.stop = threading.Event()
        """Ends all waits soon, because another part of the command has ended."""
        self.requests = 0
        """How many requests were made, tries included."""
        self._counting = threading.Lock()

    def __getstate__(self) -> Mapping[str, Any]:
        return {"address": self.address}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Open it anew in another process."""
        type(self).__init__(self, state["address"])

    def __str__(self) -> str:
        return str(self.address)

    @abstractmethod
    def sizes(self, folder: str) -> Mapping[str, int]:
        """Return the bytes of each object of a folder, by its whole name."""

    @abstractmethod
    def read(self, name: str, *, most: int, first: int = 0) -> bytes:
        """Return an object from a byte on, at most `most + 1` bytes of it; raise `GoneError`."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Make an object unless one of that name is there; return whether it was made."""

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Make an object, in place of the one of that name."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; it does not matter whether they are there."""

    def commit(self) -> None:  # noqa: B027 - most stores have nothing to do
        """Show what was made, where the store `commits`."""

    def insist(self, name: str, request: Callable[[], T]) -> T:
        """Return what a request gives at last; `PassingError` means that it is worth another."""
        wait = FIRST_WAIT
        for left in reversed(range(TRIES)):
            with self._counting:
                self.requests += 1
            try:
                return request()
            except PassingError as error:
                if not left or self.stop.wait(wait):
                    raise StoreError(
                        f"{self}/{name}: the store gave no whole answer in {TRIES} tries "
                        f"({shorten(error)}). What was done stays: run the same command again "
                        f"later to go on."
                    ) from None
                wait = min(2 * wait, LONGEST_WAIT)
        raise AssertionError("the last try returns or raises")


def shorten(error: BaseException) -> str:
    """Return what a library says, in a line without tokens."""
    text = " ".join(_QUERY.sub("…", without_secrets(str(error) or type(error).__name__)).split())
    return text if len(text) <= 160 else f"{text[:157]}..."
