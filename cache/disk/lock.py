"""One writer at a time in a cache or a run, and no dead one in the way.

    FOLDER/.lock             held by flock: the kernel frees it when its holder dies
    FOLDER/.lock.lease-N     held in its place where the file system has no flock

The package filelock takes the first. Its leases cannot serve as the second: to free one, it
exchanges two names, which network file systems refuse. It also takes a live holder on another
machine of the same name for dead, and a zombie process for alive. So leases are made here. A lease
is made with O_EXCL, names its holder and is touched every few seconds. It is over when it was given
back, when its holder is a dead process of this machine, or when nobody touched it for long. The
next writer then makes the lease of the next number: of several that try, O_EXCL lets one through.
The highest number holds and is never deleted, so that a process that looked long ago cannot take
over from a newer holder.

Times are those of the file system. A process that has flock respects a lease, but not the other way
round: machines that share a cache have to mount it alike.
"""

import errno
import fcntl
import fnmatch
import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from filelock import Timeout, UnixFileLock

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.errors import CacheBusyError
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import decode, finite_json

LEASE_RENEW = 10.0
"""Seconds between two signs of life."""
LEASE_STALE = 120.0
"""Seconds without one that end a lease; a file server may need 90 to come back."""

# The last is Linux's ENOTSUPP, which Python does not name; network file systems answer with it.
NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, 524}


@dataclass(frozen=True)
class Holder:
    """Identifies one process, and tells people since when it has the lock.

    `boot` is a boot of the machine and a space of process numbers, and `started` counts ticks since
    that boot. Both are empty where they are not known.
    """

    host: str
    boot: str
    pid: Annotated[int, (1, 2**31 - 1)]
    started: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_dead(self) -> bool:
        """Return whether the process is known to be dead, as only its own machine can know."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # alive, and of another user
        return _started(self.pid) not in ("", self.started)


@dataclass(frozen=True)
class WriterLock:
    """The lock, held: its file as it was when the lock was taken, and open if it is a lease."""

    path: Path
    file: os.stat_result
    lease: int | None = None

    def require(self) -> None:
        """Raise `CacheBusyError` if another process may write by now; call it before each step."""
        lost = "it was deleted, and another process may have made it anew"
        if self.lease is not None:
            lost = "this process was stopped for so long that another took over"
        try:
            if self.lease is not None:
                os.utime(self.lease)  # the server answers; the system may remember what stat says
            held = os.path.samestat(self.file, self.path.lstat())
            held = held and (self.lease is None or _leases(self.path.parent)[-1:] == [self.path])
        except OSError as error:
            held, lost = False, f"{lost} ({error.strerror})"
        if not held:
            raise CacheBusyError(
                f"{self.path}: this process no longer holds the writers' lock: {lost}. "
                f"When no other process writes here, run the same command again to go on."
            )


@contextmanager
def sole_writer(directory: Path, *, what: str = "cache") -> Iterator[WriterLock]:
    """Hold the lock of a cache or a run for the length of the block; a fork does not inherit it.

    Raise `CacheBusyError` if another live process holds it, and `OSError` if there can be none.
    """
    path = directory / ".lock"
    files: list[os.stat_result] = []

    def sign(handle: int) -> None:
        files.append(os.fstat(handle))
        if not stat.S_ISREG(files[-1].st_mode):
            raise OSError(errno.EISDIR, "the lock is not a regular file", str(path))
        _require_over(directory, what)
        if _is_own(handle):
            _write_holder(handle)

    lock = UnixFileLock(path, on_acquired=sign, fallback_to_soft=False, thread_local=False)
    with ExitStack() as stack:
        try:
            # A few tries, in case somebody deletes the file between its opening and its locking.
            stack.enter_context(lock.acquire(timeout=0.1, poll_interval=0.02))
            held = WriterLock(path, files[-1])
        except Timeout:
            raise _busy(path, what) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            held = _make_lease(directory, stack, what)
        yield held


@contextmanager
def locked_place(path: Path, place: int) -> Iterator[None]:
    """Let one thread of one process be in the block of this place, where there are such locks.

    The file stays empty; the kernel frees the lock of a process that dies.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        # The structure flock of fcntl(2): a byte at `place`, owned by this handle.
        asked = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        with suppress(OSError):
            fcntl.fcntl(handle, getattr(fcntl, "F_OFD_SETLKW", fcntl.F_SETLKW), asked)
        yield
    finally:
        os.close(handle)


def _busy(lock: Path, what: str, hint: str = "") -> CacheBusyError:
    """Return the error for a lock that another process holds."""
    holder = None
    with suppress(OSError):
        if lock.lstat().st_nlink == 1:  # else nobody has written into it
            holder = read_holder(lock)
    return CacheBusyError(
        f"{lock.parent}: another process is writing to this {what} ({holder or 'unknown'}). "
        f"Wait for it to end, end it, or give this command another --{what}.{hint}"
    )


def _leases(directory: Path) -> list[Path]:
    """Return all leases; the last one holds."""
    names = fnmatch.filter(os.listdir(directory), ".lock.lease-" + "[0-9]" * 6)
    return [path_in(directory, name) for name in sorted(names)]


def _make_lease(directory: Path, stack: ExitStack, what: str) -> WriterLock:
    """Make the lease that follows those that are over, and keep it alive until the stack ends."""
    over = _require_over(directory, what)
    number = int(over[-1].name[-6:]) + 1 if over else 0
    path = path_in(directory, f".lock.lease-{number:06d}")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise _busy(path, what) from None
    stack.callback(os.close, handle)
    stack.callback(_give_back, handle)
    _write_holder(handle)
    leases = _leases(directory)
    if leases[-1:] != [path]:  # others followed those that were over when we looked
        raise _busy(path, what)
    for older in leases[:-1]:
        older.unlink(missing_ok=True)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(handle, stop), daemon=True)
    renewal.start()
    stack.callback(renewal.join)
    stack.callback(stop.set)
    return WriterLock(path, os.fstat(handle), handle)


def _renew(handle: int, stop: threading.Event) -> None:
    while not stop.wait(LEASE_RENEW):
        with suppress(OSError):  # `require` will say so
            os.utime(handle)


def _give_back(handle: int) -> None:
    with suppress(OSError):  # deleted by the process that took over
        os.utime(handle, (0, 0))


def _require_over(directory: Path, what: str) -> list[Path]:
    """Return all leases; raise `CacheBusyError` unless they are over."""
    leases = _leases(directory)
    for lease in leases[-1:]:
        clock = directory / ".lock"
        os.utime(clock, follow_symlinks=False)
        try:
            holder = read_holder(lease)
            # No lease lasts into the future.
            left = LEASE_STALE - abs(clock.lstat().st_mtime - lease.lstat().st_mtime)
        except FileNotFoundError:  # another process has just taken over
            raise _busy(lease, what) from None
        if left > 0 and not (holder and holder.is_dead()):
            raise _busy(lease, what, f" If it no longer runs, try again in {left:.0f} s.")
    return leases


def _is_own(handle: int) -> bool:
    """Whether a lock's content is ours alone: no other name of the file, and no words of others.

    It tells people who the holder is. Without it the lock holds as well.
    """
    if os.fstat(handle).st_nlink != 1:
        return False
    said = os.pread(handle, 4097, 0)
    return not said.strip(b"\0") or parse_holder(said) is not None


def _write_holder(handle: int) -> None:
    """Write this process into an open file, in place of what that holds."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(asdict(this_process())).encode(), 0)


def this_process() -> Holder:
    """Return what tells this process from all others."""
    pid, since = os.getpid(), datetime.now().astimezone().isoformat(" ", "seconds")
    return Holder(socket.gethostname(), _boot(), pid, _started(pid), since)


def read_holder(path: Path) -> Holder | None:
    """Return the process that a file names; None if it names none."""
    try:
        return parse_holder(read_file(path, most=4096))
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.EINVAL):  # somebody else's file, pipe or folder
            return None
        raise


def parse_holder(said: bytes) -> Holder | None:
    """Return the process that the content of a lock names; None if it names none."""
    try:
        return decode(Holder, finite_json(said))
    except (ValueError, TypeError, RecursionError):
        return None


def _boot() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # containers count for themselves
    return ""


def _started(pid: int) -> str:
    """Return when a process started; "dead" for a zombie.

    Source: proc(5), /proc/pid/stat, fields 3 (state) and 22 (starttime).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "dead" if fields[0] in "ZX" else fields[19]
