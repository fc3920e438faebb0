"""A dictionary that lies in a file when it is large."""

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Generic, TypeVar

import numpy as np
import xxhash

from frozen_vqa.cache.large import lists
from frozen_vqa.cache.large.lists import LongList, _same
from frozen_vqa.cache.large.nameless import NamelessFile

K = TypeVar("K", int, str, int | str)
V = TypeVar("V")

_LOW = (1 << 64) - 1


class Places:
    """The place of each key in a list, by the 128-bit xxh3 digest of the key; -1 for no place.

    It is a hash table with open addresses, at most two thirds full, 24 bytes a slot: the digest and
    the place + 1, which is 0 in an empty slot.
    """

    def __init__(self, slots: int = 1 << 12) -> None:
        self._slots, self._used = slots, 0
        self._words = memoryview(NamelessFile().mapped(24 * slots)).cast("Q")

    def find(self, key: int | str) -> tuple[int, "_Slot"]:
        """Return the place of a key, and the slot that it has or would have."""
        if isinstance(key, str):
            whole = xxhash.xxh3_128_intdigest(key.encode("utf-8", "surrogatepass"))
        else:  # 7 and "7" are different keys
            whole = xxhash.xxh3_128_intdigest(b"%d" % key, 1)
        high, low = whole >> 64, whole & _LOW
        words, most = self._words, self._slots
        slot = low % most
        while (found := words[3 * slot + 2]) and (
            words[3 * slot] != high or words[3 * slot + 1] != low
        ):
            slot = slot + 1 if slot + 1 < most else 0
        return found - 1, (slot, high, low)

    def put(self, slot: "_Slot", place: int) -> None:
        """Give a key its place; nothing may be put between `find` and this."""
        at, high, low = slot
        words = self._words
        words[3 * at], words[3 * at + 1], words[3 * at + 2] = high, low, place + 1
        self._used += 1
        if 3 * self._used > 2 * self._slots:
            self._grow()

    def _grow(self) -> None:
        """Move to a table of four times as many slots."""
        larger = Places(4 * self._slots)
        old = np.frombuffer(self._words, np.uint64).reshape(-1, 3)
        new = np.frombuffer(larger._words, np.uint64).reshape(-1, 3)
        for first in range(0, len(old), 1 << 16):
            rows = old[first : first + (1 << 16)]
            rows = rows[rows[:, 2] > 0]
            at = (rows[:, 1] % np.uint64(larger._slots)).astype(np.int64)
            while len(rows):  # each round gives every free slot to the first that wants it
                free = new[at, 2] == 0
                wanted, chosen = np.unique(at[free], return_index=True)
                chosen = np.flatnonzero(free)[chosen]
                new[wanted] = rows[chosen]
                left = np.ones(len(rows), bool)
                left[chosen] = False
                rows, at = rows[left], (at[left] + 1) % larger._slots
        self._slots, self._words = larger._slots, larger._words


_Slot = tuple[int, int, int]


class Numbers(dict[K, int]):
    """Gives each key that it is asked for a number, from 0 on; beyond `KEPT` all lie in a file."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._places: Places | None = None

    def __missing__(self, key: K) -> int:
        if self._places:
            number, slot = self._places.find(key)
            if number >= 0:
                return number
            self._places.put(slot, self.count)
        else:
            self[key] = self.count
            if self.count >= lists.KEPT:
                self._move()
        self.count += 1
        return self.count - 1

    def _move(self) -> None:
        self._places = Places()
        for key, number in self.items():
            self._places.put(self._places.find(key)[1], number)
        self.clear()


class LargeDict(Mapping[K, V], Generic[K, V]):
    """A dictionary in which a key keeps its first value; beyond `KEPT` keys all lies in a file.

    `pack`, `unpack` and `large` are those of `LongList`, for the values.
    """

    def __init__(
        self,
        pack: Callable[[V], Any] = _same,
        unpack: Callable[[Any], V] = _same,
        *,
        large: bool = False,
    ) -> None:
        self._kept: dict[K, V] = {}
        self._most = lists.KEPT // lists.LARGE if large else lists.KEPT
        self._keys: LongList[K] = LongList()
        self._values = LongList[V](pack=pack, unpack=unpack, large=large)
        self._places: Places | None = None

    @classmethod
    def of(cls, pairs: Iterable[tuple[K, V]]) -> "LargeDict[K, V]":
        """Return a dictionary of keys with their values."""
        made = cls()
        for key, value in pairs:
            made.setdefault(key, value)
        return made

    def setdefault(self, key: K, value: V) -> V:
        """Return the value of a key; it is this one if it had none."""
        if self._places:
            place, slot = self._places.find(key)
            if place >= 0:
                return self._values[place]
            self._add(key, value, slot)
            return value
        found = self._kept.setdefault(key, value)
        if len(self._kept) > self._most:
            self._move()
        return found

    def _move(self) -> None:
        places = self._places = Places()
        for key, value in self._kept.items():
            self._add(key, value, places.find(key)[1])
        self._kept = {}

    def _add(self, key: K, value: V, slot: _Slot) -> None:
        assert self._places
        self._places.put(slot, len(self._keys))
        self._keys.append(key)
        self._values.append(value)

    def __getitem__(self, key: K) -> V:
        if not self._places:
            return self._kept[key]
        place, _ = self._places.find(key)
        if place < 0:
            raise KeyError(key)
        return self._values[place]

    def get(self, key: K, default: Any = None) -> Any:
        if not self._places:
            return self._kept.get(key, default)
        place, _ = self._places.find(key)
        return default if place < 0 else self._values[place]

    def __contains__(self, key: object) -> bool:
        if not self._places or not isinstance(key, int | str):
            return key in self._kept
        return self._places.find(key)[0] >= 0

    def __len__(self) -> int:
        return len(self._keys) if self._places else len(self._kept)

    def __iter__(self) -> Iterator[K]:
        return iter(self._keys if self._places else self._kept)

    def items(self) -> ItemsView[K, V]:
        return _Items(self) if self._places else self._kept.items()

    def values(self) -> ValuesView[V]:
        return _Values(self) if self._places else self._kept.values()

    @property
    def in_order(self) -> tuple[Sequence[K], Sequence[V]]:
        """All keys, and all values; those of a small dictionary are copied."""
        if self._places:
            return self._keys, self._values
        return list(self._kept), list(self._kept.values())


def distinct(keys: Iterable[K]) -> Sequence[K]:
    """Return each key once, in order of first appearance."""
    return LargeDict.of((key, None) for key in keys).in_order[0]


class _Items(ItemsView[K, V]):
    """The keys and values of a dictionary in a file, read side by side."""

    _mapping: LargeDict[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return zip(self._mapping._keys, self._mapping._values, strict=True)


class _Values(ValuesView[V]):
    """The values of a dictionary in a file, read in their order."""

    _mapping: LargeDict[Any, V]

    def __iter__(self) -> Iterator[V]:
        return iter(self._mapping._values)
