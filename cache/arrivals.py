"""Folders of this process whose files come from a URL when they are needed (stores/stage.py).

Nothing in a folder says so, because it may be a stranger's: only this process knows what it opened.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Record(Protocol):
    """What is known of a file before it comes; see `FileRecord`."""

    @property
    def file(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def xxh3(self) -> str: ...


class Arrivals(Protocol):
    """Brings the files of one cache to a `folder` that caches share.

    `gone` lists those that were removed again, in order.
    """

    address: str
    folder: Path
    gone: list[str]

    def bring(self, record: Record) -> Path:
        """Return where a file lies now; raise `CacheError` if it cannot come."""

    def forget(self, record: Record) -> None:
        """Remove a file that is damaged here, so that it comes again."""

    def expect(self, records: Sequence[Record], *, together: bool = False) -> None:
        """Begin to bring files in the order in which they will be needed.

        Raise `CacheError` if they are needed `together` and there is no room for all.
        """


_COMING: dict[Path, Arrivals] = {}


def register(directory: Path, arrivals: Arrivals) -> None:
    """Let the files of a folder come."""
    _COMING[directory] = arrivals


def arrivals_of(directory: Path) -> Arrivals | None:
    """Return what brings the files of a folder; None if they lie there."""
    return _COMING.get(directory)


def shown(directory: Path) -> str:
    """Return what people call a folder: the URL that it stands for, or its path as it was given."""
    arrivals = arrivals_of(directory)
    return arrivals.address if arrivals else str(directory)


def address_of(directory: Path) -> str:
    """Return the URL that a folder stands for, or its own path."""
    arrivals = arrivals_of(directory)
    return arrivals.address if arrivals else str(directory.resolve())
