"""HDF5 files in memory: written by plain h5py in several ways, patched, and laid out by us."""

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from frozen_vqa.cache.layout import Extent, read_layout

COLUMN = np.array([7, -1, 2**40, 0], dtype=np.int64)
ROWS = np.arange(3 * 4 * 5, dtype=np.float16).reshape(3, 4, 5)
UNDEFINED = b"\xff" * 8


def layout_of(data: bytes) -> dict[str, Extent]:
    return read_layout(memoryview(data), "a.h5")


def made(write: Callable[[h5py.File], object], path: Path, **settings: object) -> bytes:
    with h5py.File(path, "w", **settings) as file:
        write(file)
    return path.read_bytes()


def address_of(data: bytes, name: str, path: Path) -> int:
    """Return where the header of a dataset lies."""
    path.write_bytes(data)
    with h5py.File(path) as file:
        return h5py.h5o.get_info(file[name].id).addr


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    new = bytearray(data)
    for place, part in changes:
        new[place : place + len(part)] = part
    return bytes(new)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def every_dtype(file: h5py.File) -> None:
    for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
        file[code] = np.arange(6).reshape(2, 3).astype(code)


def attributes(file: h5py.File) -> None:
    """So many that headers continue elsewhere, and of variable length, which we never follow."""
    file.attrs["made by"] = "somebody"
    file["x"], file["y"] = COLUMN, ROWS
    for number in range(40):
        file["x"].attrs[str(number)] = ["text"] * number
        file["y"].attrs[str(number)] = ROWS
        file["y"].attrs["changed"] = number


def holes(file: h5py.File) -> None:
    """A tree with levels, of which nearly all leaves have gone, and space that was freed."""
    for number in range(300):
        file[f"n{number:03}"] = np.arange(number)
    for number in range(300):
        if number % 60:
            del file[f"n{number:03}"]
    file["late"] = ROWS


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink(str(Path(file.filename).with_name("other.h5")), "/x")
