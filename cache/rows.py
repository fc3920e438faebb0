"""Rows of a shard where the file system cannot map files: read one by one, by their offset."""

import os
import weakref
from pathlib import Path

import numpy as np

from frozen_vqa.cache.errors import CacheDamagedError, remedy
from frozen_vqa.cache.files import open_regular


class FileRows:
    """Stands for a mapped dataset: an index reads one row.

    Args:
        path: Of the file.
        offset: Where the dataset begins, in bytes.
        shape: Of the dataset, rows first.
        dtype: Of its numbers.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.dtype = dtype
        with open_regular(path) as file:
            self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)
        self._path, self._offset, self._shape = path, offset, shape

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        out = np.empty(self._shape[1:], self.dtype)
        left = out.reshape(-1).view(np.uint8).data
        place = self._offset + int(row) * out.nbytes
        while left:
            try:
                got = os.preadv(self._handle, [left], place)
            except OSError as error:
                raise CacheDamagedError(
                    f"{self._path}: row {row} cannot be read ({error.strerror})"
                ) from error
            if not got:
                raise CacheDamagedError(
                    f"{self._path}: ends before row {row}. {remedy(self._path.parent.parent)}"
                )
            left, place = left[got:], place + got
        return out
