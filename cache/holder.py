"""Who holds a lock: written into its file, for others to say who that is and whether it lives."""

import errno
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from frozen_vqa.cache.files import read_file


@dataclass(frozen=True)
class Holder:
    """A process, told from all others.

    Attributes:
        host: Name of the machine.
        boot: Which boot of it, and which space of process numbers; empty where that is not known.
        pid: Process number.
        started: When it started, in ticks since boot; empty where that is not known.
        since: When it took the lock, for people.
    """

    host: str
    boot: str
    pid: int
    started: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_dead(self) -> bool:
        """Return whether the process is known to be no more, as only its own machine can know."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # alive, and of another user
        return _started(self.pid) not in ("", self.started)


def write_holder(handle: int) -> None:
    """Write this process into an open file, in place of what that holds."""
    pid, since = os.getpid(), datetime.now().astimezone().isoformat(" ", "seconds")
    holder = Holder(socket.gethostname(), _boot(), pid, _started(pid), since)
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(asdict(holder)).encode(), 0)


def read_holder(path: Path) -> Holder | None:
    """Return who is written into a file; None if that cannot be understood."""
    try:
        holder = Holder(**json.loads(read_file(path, most=4096)))
    except (ValueError, TypeError, RecursionError):
        return None
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.EINVAL):  # somebody else's file, pipe or folder
            return None
        raise
    return holder if isinstance(holder.pid, int) and 0 < holder.pid < 2**31 else None


def _boot() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # containers count for themselves
    return ""


def _started(pid: int) -> str:
    """Return when a process started; "dead" for one that only waits to be collected.

    Source: proc(5), /proc/pid/stat, fields 3 (state) and 22 (starttime).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "dead" if fields[0] in "ZX" else fields[19]
