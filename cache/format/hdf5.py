"""HDF5 files as bytes: h5py lays them out in memory, and reading them needs no HDF5 library.

Every dataset is contiguous and unfiltered, and a large one starts at a multiple of 4096, so that a
reader can map the file and copy rows at memory speed. The manifest records where each dataset lies.
So a reader parses nothing: libhdf5 can hang or crash on damaged files and can be led to open other
files. Text is one run of UTF-8 bytes plus offsets, because HDF5 keeps strings of variable length
outside of their dataset.

    NAME                    rows of features, or one column of integers
    NAME_xxh3               digest of each row of features, or of the whole column
    NAME_utf8, NAME_offsets a column of text
"""

import itertools
import math
import re
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.bfloat16 import BFLOAT16, dtype_name
from frozen_vqa.cache.format.digests import Buffer, row_digest

ALIGNMENT = 4096
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("int8", "uint8", "int32", "int64", "uint64", "float16", "float32")
} | {dtype_name(BFLOAT16): BFLOAT16}
"""Every dtype that a dataset can have, by its name."""

NUMBER = "[0-9]{1,15}"
RECORD = re.compile(rf"({'|'.join(DTYPES)}) ({NUMBER}(?:x{NUMBER}){{0,3}}) at ({NUMBER})")
"""One dataset in the manifest: "float16 40x256x384 at 4096"."""

MOST_BYTES = 2**63
"""Numpy cannot make a larger array, not even an empty one that has such dimensions."""


@dataclass(frozen=True)
class Extent:
    """Where the numbers of one dataset, (rows, ...), lie in their file; at 0 if it has none."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes from the first number to the last."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)} {'x'.join(map(str, self.shape))} at {self.offset}"


@dataclass(frozen=True)
class Hdf5Bytes:
    """A new HDF5 file, and the extent of each dataset by name, as the manifest records it.

    The pieces follow one another in the file. The largest dataset is a piece of its own, a view of
    the array that was given, so that no row is copied; do not change that array before the file is
    written.
    """

    pieces: Sequence[Buffer]
    datasets: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return sum(map(len, self.pieces))


def build_hdf5(datasets: Mapping[str, np.ndarray]) -> Hdf5Bytes:
    """Return an HDF5 file that has these datasets; the same arrays give the same bytes.

    All bytes but the rows of the largest dataset depend on the number of these rows alone, and
    linearly: they are addresses, lengths and sizes. So h5py lays out files with few of the rows,
    and the bytes around all of them follow. A file is laid out as it is if its rows are few, or
    less than all else, of which the memory would hold several copies.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in datasets.items()}
    largest = max(arrays, key=lambda name: arrays[name].nbytes, default="")
    rows = arrays.get(largest, np.empty(0))
    row = rows.nbytes // max(1, len(rows))
    # With so many rows more, all that follows begins at the same place of a page.
    step = ALIGNMENT // math.gcd(ALIGNMENT, row)
    few = step + len(rows) % step
    steps = (len(rows) - few) // step
    if row and steps > 2 and 2 * rows.nbytes > sum(a.nbytes for a in arrays.values()):
        laid_out = [_lay_out(arrays | {largest: rows[: few + i * step]}) for i in range(3)]
        first = laid_out[0][1][largest]
        zero, one, two = (
            int.from_bytes(data[:first] + data[first + (few + i * step) * row :], "little")
            for i, (data, _) in enumerate(laid_out)
        )
        if two - one == one - zero:
            data, offsets = laid_out[0]
            around = (zero + steps * (one - zero)).to_bytes(len(data) - few * row, "little")
            pieces: list[Buffer] = [around[:first], rows.reshape(-1).view(np.uint8).data]
            pieces.append(around[first:])
            after = (len(rows) - few) * row
            offsets = {n: at + after * (at > first) for n, at in offsets.items()}
            return _checked(pieces, arrays, offsets)
    whole, offsets = _lay_out(arrays)
    return _checked([whole], arrays, offsets)


def _lay_out(datasets: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, int]]:
    """Return the bytes of a whole file, and where each dataset begins; 0 if it is empty."""
    import h5py  # here, so that no process that only reads loads libhdf5

    with h5py.File.in_memory(
        block_size=1 << 20, alignment_threshold=ALIGNMENT, alignment_interval=ALIGNMENT
    ) as file:
        for name, array in datasets.items():
            if array.dtype == BFLOAT16:
                add_bfloat16(file, name, array)
            else:
                file.create_dataset(name, data=array, track_times=False)
        file.flush()
        offsets = {name: file[name].id.get_offset() or 0 for name in datasets}
        return file.id.get_file_image(), offsets


def add_bfloat16(file: Any, name: str, bits: np.ndarray) -> None:
    """Add a dataset to an `h5py.File`; HDF5 knows the type by its fields, and reads float32."""
    from h5py import Datatype, h5s, h5t

    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)  # the sign, 8 bits of exponent, 7 of the fraction
    kind.set_size(bits.itemsize)
    kind.set_ebias(127)
    found = file.create_dataset(name, bits.shape, Datatype(kind), track_times=False)
    found.id.write(h5s.ALL, h5s.ALL, bits, mtype=kind)  # as they are


def _checked(
    pieces: Sequence[Buffer], arrays: Mapping[str, np.ndarray], offsets: Mapping[str, int]
) -> Hdf5Bytes:
    """Return a file; a wrong offset must never reach a manifest, because readers go by it."""
    for name, values in arrays.items():
        parts = cut(pieces, offsets[name], offsets[name] + values.nbytes)
        found = [np.frombuffer(part, np.uint8) for part in parts]
        is_it = [part.ctypes.data == values.ctypes.data for part in found] == [True]
        if not is_it and list(map(row_digest, found)) != [row_digest(values)] * bool(values.size):
            raise RuntimeError(f"h5py does not store {name!r} where it says")
    extents = {n: str(Extent(offsets[n], a.shape, a.dtype)) for n, a in arrays.items()}
    return Hdf5Bytes(pieces, extents)


def cut(pieces: Sequence[Buffer], begin: int, end: int) -> Iterator[memoryview]:
    """Yield the bytes from `begin` to `end` of a file that consists of these pieces."""
    for piece in pieces:
        if part := memoryview(piece)[max(0, begin) : max(0, end)]:
            yield part
        begin, end = begin - len(piece), end - len(piece)


def structure_digest(
    pieces: Sequence[Buffer], extents: Mapping[str, Extent], features: Sequence[str]
) -> str:
    """Return the 128-bit xxh3 digest of all bytes but the numbers of these datasets.

    Their offsets and sizes are digested in their place. Each of their rows has a digest of its
    own, so that this digest and those of the rows together cover every byte. A name that is not
    in the file is passed over.
    """
    left_out = [extents[name] for name in features if name in extents]
    hasher, place = xxhash.xxh3_128(), 0
    for offset, nbytes in sorted({(e.offset, e.nbytes) for e in left_out if e.nbytes}):
        for part in cut(pieces, place, offset):
            hasher.update(part)
        hasher.update(struct.pack("<QQ", offset, nbytes))
        place = offset + nbytes
    for part in cut(pieces, place, sum(map(len, pieces))):
        hasher.update(part)
    return hasher.hexdigest()


def read_extents(datasets: Mapping[str, object], size: int, where: str) -> dict[str, Extent]:
    """Return the extents that a manifest, perhaps a stranger's, records for a file of `size` bytes.

    Each lies inside the file, and no two overlap. None needs to be aligned. If one is not possible,
    a `CacheDamagedError` names the dataset.
    """
    found: dict[str, Extent] = {}
    for name, text in datasets.items():
        match = RECORD.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise CacheDamagedError(f"{where}: {name!r} has no extent, but {text!r:.80}")
        dtype, shape, offset = DTYPES[match[1]], tuple(map(int, match[2].split("x"))), int(match[3])
        if math.prod(n or 1 for n in shape) * dtype.itemsize >= MOST_BYTES:
            raise CacheDamagedError(f"{where}: {name!r} claims {shape}, more than memory can have")
        found[name] = extent = Extent(offset, shape, dtype)
        if offset + extent.nbytes > size:
            raise CacheDamagedError(
                f"{where}: {name!r} lies outside the file "
                f"(bytes {offset:,} to {offset + extent.nbytes:,} of {size:,})"
            )
    laid_out = sorted((e.offset, e.nbytes, name) for name, e in found.items() if e.nbytes)
    for (offset, nbytes, one), (following, _, other) in itertools.pairwise(laid_out):
        if offset + nbytes > following:
            raise CacheDamagedError(f"{where}: {other!r} overlaps {one!r} at byte {following:,}")
    return found


def column_datasets(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the two datasets that hold one column of integers: the column and its digest."""
    values = np.ascontiguousarray(values)
    return {name: values, f"{name}_xxh3": np.array([row_digest(values)], dtype=np.uint64)}


def text_datasets(name: str, texts: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the columns that hold `texts`: UTF-8 bytes and where each text begins and ends."""
    encoded, ends = bytearray(), array("q", [0])
    for text in texts:
        encoded += text.encode()
        ends.append(len(encoded))
    joined, offsets = np.frombuffer(encoded, np.uint8), np.frombuffer(ends, np.int64)
    return column_datasets(f"{name}_utf8", joined) | column_datasets(f"{name}_offsets", offsets)


def running_total(lengths: Iterable[int]) -> np.ndarray:
    """Return where consecutive pieces begin and end: (pieces + 1,) int64."""
    totals = np.fromiter(itertools.chain([0], lengths), np.int64)
    return np.cumsum(totals, out=totals)


class Hdf5File:
    """An HDF5 file in memory or mapped, read at the extents that its manifest records.

    Arrays are views of `data` and keep it alive; `path` is for messages and is not opened. Every
    method raises `CacheDamagedError` if the file is not one that we could have written.
    """

    def __init__(self, path: Path, data: Buffer | mmap, datasets: Mapping[str, object]) -> None:
        self.path = path
        self.mapped = not isinstance(data, bytes)
        self._data = memoryview(data).toreadonly().cast("B")
        self.extents = read_extents(datasets, len(self._data), str(path))

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return the dataset of this shape and dtype, as a read-only view of the file."""
        extent = self._extent(name)
        if extent.shape != shape or extent.dtype != dtype:
            raise CacheDamagedError(
                f"{self.path}: {name!r} is {dtype_name(extent.dtype)} {extent.shape}, "
                f"but the cache needs {dtype_name(dtype)} {shape}"
            )
        return np.ndarray(shape, extent.dtype, self._data, extent.offset)

    def rows(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of features and their stored digests, (rows,) uint64; nothing is compared."""
        digests = self.array(f"{name}_xxh3", shape[:1], DTYPES["uint64"])
        return self.array(name, shape, dtype), digests

    def column(self, name: str, dtype: type[np.integer] = np.int64) -> np.ndarray:
        """Return the column that `column_datasets` wrote, (any number,), as a read-only view."""
        values = self.array(name, (math.prod(self._extent(name).shape),), np.dtype(dtype))
        stored = self.array(f"{name}_xxh3", (1,), DTYPES["uint64"])[0]
        if row_digest(values) != stored:
            raise CacheDamagedError(f"{self.path}: {name!r} differs from its digest")
        return values

    def texts(self, name: str) -> list[str]:
        """Return the texts that `text_datasets` wrote."""
        data = self.column(f"{name}_utf8", np.uint8).tobytes()
        offsets = self.column(f"{name}_offsets")
        require_offsets(offsets, len(data), f"{self.path}: texts of {name!r}")
        try:
            return [data[a:b].decode() for a, b in itertools.pairwise(offsets)]
        except UnicodeDecodeError as error:
            raise CacheDamagedError(f"{self.path}: {name!r} is not UTF-8 ({error})") from error

    def structure_digest(self, features: Sequence[str]) -> str:
        """Return `structure_digest` of this file."""
        return structure_digest([self._data], self.extents, features)

    def _extent(self, name: str) -> Extent:
        if name not in self.extents:
            raise CacheDamagedError(f"{self.path}: {name!r} is missing, but the cache needs it")
        return self.extents[name]


def require_offsets(offsets: np.ndarray, end: int, what: str) -> None:
    """Raise `CacheDamagedError` unless `offsets` cut 0..end into consecutive pieces."""
    fits = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == end
    if not fits or (np.diff(offsets) < 0).any():
        raise CacheDamagedError(f"{what}: offsets do not fit what they cut")
