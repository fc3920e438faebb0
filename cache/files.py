"""Files that are whole or absent: atomic writes and digests.

HDF5 never writes to the disk itself. On a full disk it crashes the process or leaves rows of
zeros, and it never syncs; so a file's bytes are made in memory and written here.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xxhash

TEMPORARY = ".partial"
"""Suffix of a file that is being written; one left by a dead process is never read."""

Buffer = bytes | memoryview


def write_atomically(path: Path, data: Buffer) -> None:
    """Write `data` to `path` so that a kill at any instant leaves the old file or the new one.

    Raises:
        OSError: from the operating system (a full disk, say); nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + TEMPORARY)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory survive a loss of power."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial_files(directory: Path, patterns: Iterable[str]) -> None:
    """Remove what a killed writer left of files of these names; hold the lock while calling it.

    Args:
        directory: Of the cache; a person may keep other things there.
        patterns: Names of the cache's own files below it, with wildcards.
    """
    for pattern in patterns:
        for partial in directory.glob(pattern + TEMPORARY):
            partial.unlink()


def digest(data: Buffer) -> str:
    """Return the 128-bit xxh3 digest of a file's bytes, in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(data)


def row_digest(row: np.ndarray) -> int:
    """Return the 64-bit xxh3 digest of one C-contiguous row."""
    return xxhash.xxh3_64_intdigest(row.reshape(-1).view(np.uint8).data)


def row_digests(rows: np.ndarray) -> np.ndarray:
    """Return the 64-bit xxh3 digest of each row: (rows, ...) -> (rows,) uint64."""
    return np.array([row_digest(row) for row in np.ascontiguousarray(rows)], dtype=np.uint64)
