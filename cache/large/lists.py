"""A list that lies in a file when it is long."""

import marshal
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar, overload

from frozen_vqa.cache.large.nameless import NamelessFile

T = TypeVar("T")

KEPT = 1 << 20
"""Values that stay in memory: at most a GB of questions, with all that a plan has of them."""

LARGE = 1 << 14
"""Values that a large one counts for, such as the prefixes of a chunk of questions."""

AT_ONCE = 256
"""Values that are written at once."""

BLOCK = 32
"""Values that are read at once: few for one in the middle, enough for all in their order."""


def _same(value: Any) -> Any:
    return value


class LongList(Sequence[T], Generic[T]):
    """A list to which values are added at its end; beyond `KEPT` all lie in a file.

    Args:
        values: The first values.
        pack: Makes numbers, texts, tuples, lists and dictionaries of a value that is none.
        unpack: Makes the value of them.
        large: Whether a value is as large as a whole block of others, and as many others count.
    """

    def __init__(
        self,
        values: Iterable[T] = (),
        pack: Callable[[T], Any] = _same,
        unpack: Callable[[Any], T] = _same,
        *,
        large: bool = False,
    ) -> None:
        self._block_size = 1 if large else BLOCK
        self._most = KEPT // LARGE if large else KEPT
        self._pack, self._unpack = pack, unpack
        self._kept: list[T] = []  # all, or those behind the last block
        self._file: NamelessFile | None = None
        self._begins = array("q", [0])  # of the blocks in the file
        self._last: tuple[int, list[T]] = (-1, [])  # the block that was read last
        self.extend(values)

    def append(self, value: T) -> None:
        """Add a value."""
        self._kept.append(value)
        if len(self._kept) > self._most:
            self._write()

    def extend(self, values: Iterable[T]) -> None:
        """Add values."""
        left = iter(values)
        while part := list(islice(left, AT_ONCE)):
            self._kept += part
            if len(self._kept) > self._most:
                self._write()

    def _write(self) -> None:
        """Move all whole blocks to the file."""
        file = self._file = self._file or NamelessFile()
        block, pack, packed = self._block_size, self._pack, bytearray()
        self._most = AT_ONCE if block > 1 else 0
        whole = len(self._kept) // block * block
        for first in range(0, whole, block):
            packed += marshal.dumps([pack(one) for one in self._kept[first : first + block]])
            self._begins.append(file.size + len(packed))
        file.append(packed)
        del self._kept[:whole]

    def _block(self, number: int) -> list[T]:
        last, values = self._last
        if last != number:
            assert self._file
            # Only this process can have written them: the file has no name.
            data = self._file.read(self._begins[number], self._begins[number + 1])
            values = [self._unpack(one) for one in marshal.loads(data)]
            self._last = (number, values)
        return values

    @property
    def short(self) -> Sequence[T]:
        """Itself, or the Python list that it is while it is short."""
        return self if self._file else self._kept

    def __len__(self) -> int:
        return (len(self._begins) - 1) * self._block_size + len(self._kept)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if not self._file:
            return self._kept[index]
        places = range(len(self))[index]
        if isinstance(places, int):
            number, inside = divmod(places, self._block_size)
            if number < len(self._begins) - 1:
                return self._block(number)[inside]
            return self._kept[places - len(self)]
        if places == range(len(self)):
            return self
        few: list[T] | LongList[T] = []
        if len(places) > KEPT:
            few = LongList(pack=self._pack, unpack=self._unpack)
        few.extend(map(self.__getitem__, places))
        return few

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._begins) - 1):
            yield from self._block(number)
        yield from self._kept

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
