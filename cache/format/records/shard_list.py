"""The shards of one kind: those of full pages, then the newest, whose records the root has."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, overload

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.records.files import PageRecord, ShardKind, ShardRecord
from frozen_vqa.cache.format.records.pages import Column, Page
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.names import path_in

ReadPage = Callable[[Path, PageRecord], bytes]
"""Returns the bytes of a page of the cache in a directory, once they have its digest."""


@dataclass(frozen=True)
class PageSource:
    """Reads the pages of a cache, each when it is first needed.

    They stay in memory as they are in their files: 40 MB for 100,000 shards. Who reads rows in
    random order comes back to every page again and again.
    """

    directory: Path
    spec: CacheSpec
    kind: ShardKind
    read: ReadPage
    _pages: dict[str, Page] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the pages, which another process reads itself."""
        return {**vars(self), "_pages": {}}

    def page(self, record: PageRecord) -> Page:
        """Return a page; raise `CacheDamagedError` if it is not what was written."""
        found = self._pages.get(record.xxh3)
        if found is None:
            data = self.read(self.directory, record)
            with _explain(self.directory, record):
                found = self._pages[record.xxh3] = Page(self.spec, self.kind, record, data)
        return found

    def record(self, of: PageRecord, place: int) -> ShardRecord:
        """Return a record of a page."""
        page = self.page(of)
        with _explain(self.directory, of):
            return page.record(place)


@contextmanager
def _explain(directory: Path, record: PageRecord) -> Iterator[None]:
    """A page that has its digest and is none comes from somebody else."""
    try:
        yield
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise CacheDamagedError(
            f"{path_in(directory, record.file)}: not a page of a cache ({error!s:.300}). Take "
            f"another copy of the cache."
        ) from error


@dataclass(frozen=True, eq=False)
class ShardList(Sequence[ShardRecord]):
    """The records of all shards of a kind, in their order.

    `last` has those that are in no page. A sum is known without any page.
    """

    pages: tuple[PageRecord, ...]
    last: tuple[ShardRecord, ...]
    source: PageSource | None = field(default=None, repr=False)

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of the first shard of each page, and of `last`."""
        return list(accumulate((page.shards for page in self.pages), initial=0))

    @property
    def paged(self) -> int:
        """How many shards are in pages."""
        return self._firsts[-1]

    def __len__(self) -> int:
        return self.paged + len(self.last)

    @overload
    def __getitem__(self, index: int) -> ShardRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ShardRecord]: ...
    def __getitem__(self, index: int | slice) -> ShardRecord | Sequence[ShardRecord]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        if places >= self.paged:
            return self.last[places - self.paged]
        number, place = self.place(places)
        return self._pages.record(self.pages[number], place)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ShardList) and self.pages == other.pages:
            return self.last == other.last
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def place(self, index: int) -> tuple[int, int]:
        """Return the number of the page that has a shard, and its place there."""
        number = bisect_right(self._firsts, index) - 1
        return number, index - self._firsts[number]

    def page(self, number: int) -> tuple[ShardRecord, ...]:
        """Return the records of a page."""
        record = self.pages[number]
        return tuple(self._pages.record(record, place) for place in range(record.shards))

    def column(self, name: Column) -> list[Any]:
        """Return a field of every record; this reads the first lines of all pages alone."""
        found = [value for page in self.pages for value in self._pages.page(page).column(name)]
        return found + [getattr(record, name) for record in self.last]

    def origins(self) -> list[Mapping[str, Any]]:
        """Return the origins of all shards; shards of a page may share one."""
        found = [origin for page in self.pages for origin in self._pages.page(page).origins]
        return found + [record.origin for record in self.last]

    def total(self, name: Literal["rows", "bytes", "prefixes"]) -> int:
        """Return the sum of a field over all records."""
        of_page = "shard_bytes" if name == "bytes" else name
        paged = sum(getattr(page, of_page) for page in self.pages)
        return paged + sum(getattr(record, name) for record in self.last)

    def with_shard(self, index: int, record: ShardRecord) -> "ShardList":
        """Return a list in which this is the shard at `index`, which is in no page."""
        place = index - self.paged
        assert 0 <= place <= len(self.last)
        return replace(self, last=(*self.last[:place], record, *self.last[place + 1 :]))

    def with_page(self, number: int, page: PageRecord) -> "ShardList":
        """Return a list with a page in place of page `number`, or of the first shards of `last`."""
        pages = (*self.pages[:number], page, *self.pages[number + 1 :])
        last = self.last if number < len(self.pages) else self.last[page.shards :]
        return replace(self, pages=pages, last=last)

    @property
    def _pages(self) -> PageSource:
        assert self.source, "a list with pages knows how to read them"
        return self.source
