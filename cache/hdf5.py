"""HDF5 files as bytes: built in memory, and opened only after they proved to be ours.

Every dataset is contiguous and unfiltered, and large ones start at a multiple of 4096, so that a
reader may map the file and copy rows at memory speed. Text is stored as one run of UTF-8 bytes
and offsets: a damaged variable-length string can hang HDF5.

    NAME                    rows of features, or one column of integers
    NAME_xxh3               digest of each row of features, or of the whole column
    NAME_utf8, NAME_offsets a column of text
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cache.errors import CacheDamagedError
from cache.files import row_digest

ALIGNMENT = 4096


def hdf5_bytes(datasets: Mapping[str, np.ndarray]) -> bytes:
    """Return an HDF5 file with these datasets; the same arrays give the same bytes."""
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


@dataclass(frozen=True)
class Extent:
    """Where the rows of one dataset lie in their file.

    Attributes:
        path: The HDF5 file.
        offset: Byte at which the first row begins.
        shape: (rows, ...).
        dtype: Of one element.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Hdf5File:
    """An HDF5 file opened for reading, with checks before anything is believed.

    Raises:
        CacheDamagedError: from every method, if the file is not one that we could have written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise CacheDamagedError(f"{path}: not a readable HDF5 file ({error})") from error

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Turn what h5py raises for damaged structures, nearly any class, into ours."""
        try:
            yield
        except (OSError, KeyError, RuntimeError, TypeError, ValueError, ArithmeticError) as error:
            raise CacheDamagedError(
                f"{self.path}: dataset {name!r} cannot be read ({error})"
            ) from error

    def _dataset(self, name: str) -> h5py.Dataset:
        # get(getlink=True) does not follow links, so that a link to another file is not opened.
        if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
            raise CacheDamagedError(f"{self.path}: dataset {name!r} is missing or is a link")
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise CacheDamagedError(f"{self.path}: {name!r} is not a dataset")
        layout = dataset.id.get_create_plist()
        plain = (
            layout.get_layout() == h5py.h5d.CONTIGUOUS
            and layout.get_external_count() == 0
            and layout.get_nfilters() == 0
            and dataset.dtype.kind in "iuf"
            and dataset.dtype.isnative
            and dataset.id.get_storage_size() == dataset.nbytes
        )
        if not plain:
            raise CacheDamagedError(
                f"{self.path}: dataset {name!r} is not plain contiguous numbers, "
                f"so this cache did not write it"
            )
        return dataset

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Read a whole dataset of this shape and dtype into memory."""
        with self._reading(name):
            return self._checked(name, shape, dtype)[()]

    def column(self, name: str, dtype: type[np.integer] = np.int64) -> np.ndarray:
        """Read what `column_datasets` wrote: (any number,)."""
        with self._reading(name):
            values = self._checked(name, (self._dataset(name).size,), np.dtype(dtype))[()]
            stored = self._checked(f"{name}_xxh3", (1,), np.dtype(np.uint64))[0]
        if row_digest(values) != stored:
            raise CacheDamagedError(f"{self.path}: {name!r} differs from its digest")
        return values

    def texts(self, name: str) -> list[str]:
        """Read what `text_datasets` wrote."""
        data = self.column(f"{name}_utf8", np.uint8).tobytes()
        offsets = self.column(f"{name}_offsets")
        require_offsets(offsets, len(data), f"{self.path}: texts of {name!r}")
        try:
            return [data[a:b].decode() for a, b in itertools.pairwise(offsets)]
        except UnicodeDecodeError as error:
            raise CacheDamagedError(f"{self.path}: {name!r} is not UTF-8 ({error})") from error

    def extent(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Extent:
        """Return where a dataset's rows lie, having checked that mapping them is safe."""
        with self._reading(name):
            dataset = self._checked(name, shape, dtype)
            offset = dataset.id.get_offset()
            if offset is None or offset + dataset.nbytes > self.path.stat().st_size:
                raise CacheDamagedError(f"{self.path}: rows of {name!r} lie outside the file")
        return Extent(self.path, offset, shape, np.dtype(dtype))

    def _checked(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
        dataset = self._dataset(name)
        if dataset.shape != shape or dataset.dtype != dtype:
            raise CacheDamagedError(
                f"{self.path}: {name!r} is {dataset.dtype} {dataset.shape}, "
                f"but the manifest needs {dtype} {shape}"
            )
        # The size on disk bounds what a forged header can make us allocate.
        if dataset.nbytes > self.path.stat().st_size:
            raise CacheDamagedError(f"{self.path}: dataset {name!r} claims more than the file has")
        return dataset


def require_offsets(offsets: np.ndarray, end: int, what: str) -> None:
    """Raise `CacheDamagedError` unless `offsets` cut 0..end into consecutive pieces."""
    fits = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == end
    if not fits or (np.diff(offsets) < 0).any():
        raise CacheDamagedError(f"{what}: offsets do not fit what they cut")
