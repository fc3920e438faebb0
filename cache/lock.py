"""One writer at a time, and none that is dead in the way.

    DIRECTORY/.lock             held by flock: the kernel gives it back when its holder dies
    DIRECTORY/.lock.lease-N     held in its stead where the file system has no flock

A lease is made with O_EXCL, names its holder and is touched every few seconds. It is over when it
was given back, when its holder is a process of this machine that is no more, or when it was not
touched for long. The next writer then makes the lease of the next number: of several that try,
O_EXCL lets one through. The highest number holds and is never deleted, so that nobody who looked
long ago can take what has moved on since.

Times are those of the file system (one that takes its clients' needs them to agree roughly). Who
has flock respects a lease, not the other way: machines that share a cache have to mount it alike.
"""

import errno
import fcntl
import fnmatch
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from frozen_vqa.cache.errors import CacheBusyError
from frozen_vqa.cache.holder import read_holder, write_holder

LEASE_RENEW = 10.0
"""Seconds between two signs of life."""
LEASE_STALE = 120.0
"""Seconds without one that end a lease; a server of files may take 90 to come back."""

# The last is Linux's ENOTSUPP, which Python does not name; network file systems answer with it.
NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, 524}


@dataclass(frozen=True)
class WriterLock:
    """The lock, held.

    Attributes:
        path: The file that stands for it.
        handle: That file, open.
        leased: Whether it is a lease, not a lock of the kernel.
    """

    path: Path
    handle: int
    leased: bool

    def is_current(self) -> bool:
        """Return whether the file at the path is still the one that is held."""
        try:
            return os.path.samestat(os.fstat(self.handle), self.path.stat())
        except FileNotFoundError:
            return False

    def require(self) -> None:
        """Raise unless the lock is still held; call it before a step that needs a sole writer.

        Raises:
            CacheBusyError: if another process may be writing by now.
        """
        lost = "it was deleted, and another process may have made it anew"
        try:
            held = self.is_current()
            if self.leased:
                lost = "this process was stopped for so long that another took over"
                os.utime(self.handle)  # answered by the server; what stat says may be remembered
                held = held and _leases(self.path.parent)[-1:] == [self.path]
        except OSError as error:
            held, lost = False, f"{lost} ({error.strerror})"
        if not held:
            raise CacheBusyError(
                f"{self.path}: this process no longer holds the writers' lock: {lost}. "
                f"When no other process writes here, run the same command again to go on."
            )


@contextmanager
def sole_writer(directory: Path) -> Iterator[WriterLock]:
    """Hold the directory's lock for the length of the block.

    Raises:
        CacheBusyError: if another live process holds it.
        OSError: if there can be no lock file here.
    """
    path, flocked = directory / ".lock", True
    with ExitStack() as stack:
        lock = WriterLock(path, _open(path, os.O_CREAT, stack), leased=False)
        while (flocked := _flock(lock)) and not lock.is_current():  # deleted since it was opened
            lock = WriterLock(path, _open(path, os.O_CREAT, stack), leased=False)
        leases = _leases(directory)
        if leases:
            os.utime(lock.handle)
            _require_over(leases[-1], now=os.fstat(lock.handle).st_mtime)
        if flocked:
            write_holder(lock.handle)
        else:
            lock = _lease(directory, leases, stack)
        yield lock


def _open(path: Path, flags: int, stack: ExitStack) -> int:
    # Somebody else's cache may have a link or a pipe in this place.
    safe = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, os.O_RDWR | flags | safe, 0o666)
    stack.callback(os.close, handle)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "the lock is not a regular file", str(path))
    return handle


def _flock(lock: WriterLock) -> bool:
    """Take the kernel's lock; return whether the file system has such a thing."""
    try:
        fcntl.flock(lock.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy(lock.path) from None
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return False
    return True


def _leases(directory: Path) -> list[Path]:
    """Return all leases, the one that holds last."""
    names = fnmatch.filter(os.listdir(directory), ".lock.lease-" + "[0-9]" * 6)
    return [directory / name for name in sorted(names)]


def _lease(directory: Path, ended: list[Path], stack: ExitStack) -> WriterLock:
    """Make the lease that follows those that have ended, and keep it alive."""
    number = int(ended[-1].name[-6:]) + 1 if ended else 0
    path = directory / f".lock.lease-{number:06d}"
    try:
        handle = _open(path, os.O_CREAT | os.O_EXCL, stack)
    except FileExistsError:
        raise _busy(path) from None
    stack.callback(_give_back, handle)
    write_holder(handle)
    leases = _leases(directory)
    if leases[-1:] != [path]:  # those that had ended when we looked were followed by others
        raise _busy(path)
    for older in leases[:-1]:
        older.unlink(missing_ok=True)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(handle, stop), daemon=True)
    renewal.start()
    stack.callback(renewal.join)
    stack.callback(stop.set)
    return WriterLock(path, handle, leased=True)


def _renew(handle: int, stop: threading.Event) -> None:
    while not stop.wait(LEASE_RENEW):
        with suppress(OSError):  # `require` will say so
            os.utime(handle)


def _give_back(handle: int) -> None:
    with suppress(OSError):  # deleted by the one who took over
        os.utime(handle, (0, 0))


def _require_over(lease: Path, *, now: float) -> None:
    try:
        holder = read_holder(lease)
        left = LEASE_STALE - abs(now - lease.stat().st_mtime)  # no lease lasts into the future
    except FileNotFoundError:  # somebody has just taken over
        raise _busy(lease) from None
    if left > 0 and not (holder and holder.is_dead()):
        raise _busy(lease, f" If it runs no more, try again in {left:.0f} s.")


def _busy(path: Path, hint: str = "") -> CacheBusyError:
    holder = None
    with suppress(OSError):
        holder = read_holder(path)
    return CacheBusyError(
        f"{path.parent}: another process is writing to this cache ({holder or 'unknown'}). "
        f"Wait for it to end, end it, or give this command another --cache.{hint}"
    )
