"""Files that are whole or absent: atomic writes and careful reads.

HDF5 never writes to the disk itself: on a full disk it crashes the process or leaves rows of
zeros, and it never syncs. So a file's bytes are made in memory and written here.
"""

import errno
import io
import mmap
import os
import resource
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from frozen_vqa.cache.format.digests import Buffer

TEMPORARY = ".partial"
"""Suffix of a file that is being written; nobody reads one that a dead process left."""

WRITE_BYTES = 8 << 20
"""Bytes handed to the kernel at once: Ctrl-C does not wait for a whole shard, nor does the disk."""


SMALL_WRITE = 1 << 20
"""The same for a file that is not lasting. For 8 MB, Linux 6 looks for large pieces of free memory,
and where that is scattered the search cost 1.5 s of each gigabyte, and 0.25 s for 1 MB."""


def write_atomically(
    path: Path, *pieces: Buffer, shared: bool = False, lasting: bool = True
) -> None:
    """Write `pieces` to `path` so that a kill at any instant leaves the old file or the new one.

    Once this returns, a loss of power leaves the new one. Other processes may write a `shared` file
    at the same time; the last one wins, whole. After an `OSError` nothing is left behind. A file
    that is not `lasting` need not survive a loss of power, because it can be fetched again.
    """
    make_directory(path.parent)
    own = f".{os.urandom(4).hex()}" if shared else ""
    partial = path.with_name(f"{path.name}{own}{TEMPORARY}")
    partial.unlink(missing_ok=True)
    try:
        # O_EXCL: a link that somebody has put there is not followed.
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    written = os.write(handle, rest[: WRITE_BYTES if lasting else SMALL_WRITE])
                    if lasting:
                        _begin_writing_back(handle, written)
                    rest = rest[written:]
            if lasting:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if lasting:
        sync_directory(path.parent)


def _begin_writing_back(handle: int, written: int) -> None:
    """Let the disk begin with the bytes just written, while the next ones are copied.

    The kernel would begin with the fsync. Linux takes this advice to write pages back, and keeps
    those that are not written yet, so a file that was just written is still read from memory.
    """
    if written == WRITE_BYTES and hasattr(os, "posix_fadvise"):
        place = os.lseek(handle, 0, os.SEEK_CUR) - written
        with suppress(OSError):  # advice that a file system need not take
            os.posix_fadvise(handle, place, written, os.POSIX_FADV_DONTNEED)


def user_caches() -> Path | None:
    """Return the folder of this user for what can be made again; None if no home is known.

    A relative XDG_CACHE_HOME counts as none. Source: XDG Base Directory Specification 0.8.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():
        caches = Path(os.path.expanduser("~/.cache"))
    return caches if caches.is_absolute() else None


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


def open_regular(path: Path, *, most: int | None = None, follow: bool = True) -> io.FileIO:
    """Open a file; raise `OSError` for a device, a folder or a pipe, which could wait for ever.

    Raise it also if the file has more than `most` bytes, or is a link and `follow` is not set.
    """
    kept = 0 if follow else os.O_NOFOLLOW
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | kept)
    try:
        require_regular(path, os.fstat(handle), most=most)
    except OSError:
        os.close(handle)
        raise
    return io.FileIO(handle, "rb")


def require_regular(path: Path, found: os.stat_result, *, most: int | None = None) -> None:
    """Raise `OSError` unless what was found is a regular file of at most `most` bytes."""
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if most is not None and found.st_size > most:
        limit = f"{most:,} bytes" if most < memory_bytes() else "this machine has memory"
        raise OSError(errno.EFBIG, f"more than {limit}", str(path))


def require_regular_below(folder: Path, most: Mapping[str, int]) -> None:
    """Raise `OSError` as `open_regular` would for a file of a folder that a library will read.

    `most` has the largest size by the ending of a name. Folders and files whose names begin with a
    dot are left out, except for files with an ending in `most`.
    """
    left, seen = [folder], set()
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                hidden, limit = entry.name.startswith("."), most.get(path.suffix)
                if entry.is_dir():
                    place = entry.stat().st_ino, entry.stat().st_dev
                    if not hidden and place not in seen:  # a link may lead back
                        seen.add(place)
                        left.append(path)
                elif limit or not (hidden or entry.is_file(follow_symlinks=False)):
                    with suppress(FileNotFoundError):  # a link to nothing
                        require_regular(path, entry.stat(), most=limit)


def memory_bytes() -> int:
    """Return the bytes of this machine's memory. No file that is read whole may have more."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def read_file(path: Path, *, most: int | None = None, follow: bool = True) -> bytes:
    """Return the bytes of a file, or raise as `open_regular` does; never more than memory has."""
    limit = memory_bytes() if most is None else min(most, memory_bytes())
    with open_regular(path, most=limit, follow=follow) as file:
        return file.readall()


def same_bytes(path: Path, data: bytes) -> bool:
    """Return whether a file holds `data`; no file holds nothing. One may raise `OSError`."""
    try:
        return read_file(path, most=len(data)) == data
    except FileNotFoundError:
        return not data
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        return False


def map_file(path: Path) -> memoryview:
    """Return a regular file's bytes as a read-only map, which costs no memory until it is read.

    A map keeps a file descriptor, and many systems grant too few at first for a thousand shards.
    Then the limit is raised as far as it may be.
    """
    try:
        return _map(path)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _map(path)


def _map(path: Path) -> memoryview:
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
