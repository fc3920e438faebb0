"""HDF5 files as bytes: h5py builds them in memory, and is not needed to read them.

Every dataset is contiguous and unfiltered, and large ones start at a multiple of 4096, so that a
reader may map the file and copy rows at memory speed. Text is stored as one run of UTF-8 bytes
and offsets, because strings of variable length lie elsewhere in a file than their dataset.

    NAME                    rows of features, or one column of integers
    NAME_xxh3               digest of each row of features, or of the whole column
    NAME_utf8, NAME_offsets a column of text
"""

import itertools
import math
import struct
from collections.abc import Mapping, Sequence
from mmap import mmap
from pathlib import Path

import numpy as np
import xxhash

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.files import Buffer, row_digest
from frozen_vqa.cache.layout import Extent, read_layout

ALIGNMENT = 4096


def hdf5_bytes(datasets: Mapping[str, np.ndarray]) -> bytes:
    """Return an HDF5 file with these datasets; the same arrays give the same bytes."""
    import h5py  # here, so that no process that only reads loads libhdf5

    with h5py.File.in_memory(
        block_size=1 << 20, alignment_threshold=ALIGNMENT, alignment_interval=ALIGNMENT
    ) as file:
        for name, array in datasets.items():
            file.create_dataset(name, data=array, track_times=False)
        file.flush()
        return file.id.get_file_image()


def column_datasets(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the two datasets that hold one column of integers: the column and its digest."""
    values = np.ascontiguousarray(values)
    return {name: values, f"{name}_xxh3": np.array([row_digest(values)], dtype=np.uint64)}


def text_datasets(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the columns that hold `texts`: UTF-8 bytes and where each text begins and ends."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    joined = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return column_datasets(f"{name}_utf8", joined) | column_datasets(f"{name}_offsets", offsets)


class Hdf5File:
    """An HDF5 file in memory or mapped, with checks before anything is believed.

    Args:
        path: How messages name the file; it is not opened.
        data: All bytes of the file. Arrays are views of it and keep it alive.

    Raises:
        CacheDamagedError: here and from every method, if it is not a file that we could have
            written.
    """

    def __init__(self, path: Path, data: Buffer | mmap) -> None:
        self.path = path
        self.mapped = not isinstance(data, bytes)
        self._data = memoryview(data).toreadonly().cast("B")
        self.layout = read_layout(self._data, str(path))

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return the dataset of this shape and dtype, as a read-only view of the file."""
        extent = self._extent(name)
        if extent.shape != shape or extent.dtype != dtype:
            raise CacheDamagedError(
                f"{self.path}: {name!r} is {extent.dtype} {extent.shape}, "
                f"but the manifest needs {dtype} {shape}"
            )
        return np.ndarray(shape, extent.dtype, self._data, extent.offset)

    def column(self, name: str, dtype: type[np.integer] = np.int64) -> np.ndarray:
        """Return what `column_datasets` wrote, (any number,), as a read-only view."""
        values = self.array(name, (math.prod(self._extent(name).shape),), np.dtype(dtype))
        stored = self.array(f"{name}_xxh3", (1,), np.dtype(np.uint64))[0]
        if row_digest(values) != stored:
            raise CacheDamagedError(f"{self.path}: {name!r} differs from its digest")
        return values

    def texts(self, name: str) -> list[str]:
        """Return what `text_datasets` wrote."""
        data = self.column(f"{name}_utf8", np.uint8).tobytes()
        offsets = self.column(f"{name}_offsets")
        require_offsets(offsets, len(data), f"{self.path}: texts of {name!r}")
        try:
            return [data[a:b].decode() for a, b in itertools.pairwise(offsets)]
        except UnicodeDecodeError as error:
            raise CacheDamagedError(f"{self.path}: {name!r} is not UTF-8 ({error})") from error

    def structure_digest(self, features: Sequence[str]) -> str:
        """Return the 128-bit xxh3 digest of all bytes but the numbers of these datasets.

        In place of each dataset that is left out, its offset and its bytes are digested. What is
        left out has digests by row, so that these and a file's rows together cover every byte.

        Args:
            features: Names of datasets; one that is not in the file is passed over.
        """
        extents = [self.layout[name] for name in features if name in self.layout]
        digest, place = xxhash.xxh3_128(), 0
        for offset, nbytes in sorted({(e.offset, e.nbytes) for e in extents if e.nbytes}):
            digest.update(self._data[place:offset])
            digest.update(struct.pack("<QQ", offset, nbytes))
            place = offset + nbytes
        digest.update(self._data[place:])
        return digest.hexdigest()

    def _extent(self, name: str) -> Extent:
        if name not in self.layout:
            raise CacheDamagedError(f"{self.path}: {name!r} is missing, but the manifest needs it")
        return self.layout[name]


def require_offsets(offsets: np.ndarray, end: int, what: str) -> None:
    """Raise `CacheDamagedError` unless `offsets` cut 0..end into consecutive pieces."""
    fits = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == end
    if not fits or (np.diff(offsets) < 0).any():
        raise CacheDamagedError(f"{what}: offsets do not fit what they cut")
