"""The ids of pictures by their rows, read when somebody asks for a row."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import overload

from frozen_vqa.cache.disk.integrity import open_shard
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.shards import NAMES


class IdsByRow(Sequence[str]):
    """The id of every picture of a cache; what is read is the shards of the rows that are asked.

    Pictures of shards that a part of a cache lacks have the id "". How many they are is a
    stranger's word, so nothing is as large as the rows of a manifest.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory, self._absent = directory, set(manifest.absent)
        self._shards = manifest.shards("images")
        self._firsts = list(accumulate(self._shards.column("rows"), initial=0))
        self._read: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return self._firsts[-1]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        rows = range(len(self))[index]
        if isinstance(rows, range):
            return [self[row] for row in rows]
        number = bisect_right(self._firsts, rows) - 1
        if number not in self._read:
            record = self._shards[number]
            here = record.file not in self._absent
            found = open_shard(self._directory, "images", record) if here else None
            self._read[number] = found.texts(NAMES["images"]) if found else []
        ids = self._read[number]
        return ids[rows - self._firsts[number]] if ids else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
