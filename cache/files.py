"""Files that are whole or absent: atomic writes, careful reads, and digests.

HDF5 never writes to the disk itself. On a full disk it crashes the process or leaves rows of
zeros, and it never syncs; so a file's bytes are made in memory and written here.
"""

import errno
import io
import mmap
import os
import resource
import stat
from pathlib import Path

import numpy as np
import xxhash

TEMPORARY = ".partial"
"""Suffix of a file that is being written; one left by a dead process is never read."""

WRITE_BYTES = 64 << 20
"""Bytes handed to the kernel at once, so that Ctrl-C need not wait for a whole shard."""

Buffer = bytes | memoryview


def write_atomically(path: Path, data: Buffer, *, shared: bool = False) -> None:
    """Write `data` to `path` so that a kill at any instant leaves the old file or the new one.

    Once this returns, a loss of power leaves the new one.

    Args:
        path: Of the file.
        data: All of it.
        shared: Whether another process may write it at the same time; the last one wins, whole.

    Raises:
        OSError: from the operating system (a full disk, say); nothing is left behind then.
    """
    make_directory(path.parent)
    own = f".{os.urandom(4).hex()}" if shared else ""
    partial = path.with_name(f"{path.name}{own}{TEMPORARY}")
    partial.unlink(missing_ok=True)
    try:
        # O_EXCL: a link that somebody has put there is not followed.
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest[:WRITE_BYTES]) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, so that they survive a loss of power."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory survive a loss of power."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(path: Path) -> io.FileIO:
    """Open a file for reading if it is one: opening a named pipe would wait for ever.

    Raises:
        OSError: as `open` does, or if it is a device, a pipe or a folder.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return io.FileIO(handle, "rb")


def read_file(path: Path, *, most: int | None = None) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as `open_regular` does, or if it has more than `most` bytes.
    """
    with open_regular(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
        return file.readall()


def map_file(path: Path) -> memoryview:
    """Return a regular file's bytes as a read-only map, which costs no memory until it is read.

    A map keeps a file descriptor, and a cache of a thousand shards has more of them than many
    systems grant at first; then the limit is raised as far as it may be.
    """
    try:
        return _map(path)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    _raise_file_limit()
    return _map(path)


def _map(path: Path) -> memoryview:
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def digest(data: Buffer) -> str:
    """Return the 128-bit xxh3 digest of a file's bytes, in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(data)


def row_digest(row: np.ndarray) -> int:
    """Return the 64-bit xxh3 digest of one C-contiguous row."""
    return xxhash.xxh3_64_intdigest(row.reshape(-1).view(np.uint8).data)


def row_digests(rows: np.ndarray) -> np.ndarray:
    """Return the 64-bit xxh3 digest of each row: (rows, ...) -> (rows,) uint64."""
    return np.array([row_digest(row) for row in np.ascontiguousarray(rows)], dtype=np.uint64)
