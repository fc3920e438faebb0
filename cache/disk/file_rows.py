"""Rows of a file that are read one by one, where a file system has no maps."""

import math
import os
import weakref
from pathlib import Path

import numpy as np

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.errors import CacheDamagedError, remedy
from frozen_vqa.cache.format.hdf5 import Extent


class FileRows:
    """Stands for a mapped dataset where there are no maps: an index reads one row."""

    def __init__(self, path: Path, extent: Extent) -> None:
        with open_regular(path) as file:
            self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)
        self._path, self._extent = path, extent

    def __getitem__(self, row: int) -> np.ndarray:
        offset, shape, dtype = self._extent.offset, self._extent.shape[1:], self._extent.dtype
        nbytes = math.prod(shape) * dtype.itemsize
        offset, data = offset + int(row) * nbytes, b""
        try:
            while len(data) < nbytes and (
                more := os.pread(self._handle, nbytes - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise CacheDamagedError(
                f"{self._path}: row {row} cannot be read ({error.strerror})"
            ) from error
        if len(data) < nbytes:
            raise CacheDamagedError(
                f"{self._path}: ends before row {row}. {remedy(self._path.parent.parent)}"
            )
        return np.frombuffer(data, dtype).reshape(shape)
