"""Writers in other processes, file systems without flock, and leases that somebody left."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache.disk import lock
from frozen_vqa.cache.disk.lock import WriterLock, sole_writer
from frozen_vqa.cache.errors import CacheBusyError
from tests.support.repository import ROOT

LEASE = ".lock.lease-{:06d}"
OTHERS = {"host": "elsewhere", "boot": "b", "pid": 7, "started": "1", "since": "yesterday"}

CHILD = """
import errno, fcntl, sys
from pathlib import Path
from frozen_vqa.cache.disk import lock
from frozen_vqa.cache.errors import CacheBusyError

def no_flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")

if sys.argv[2] == "lease":
    fcntl.flock = no_flock
lock.LEASE_RENEW = 0.05
sys.stdin.readline()
try:
    with lock.sole_writer(Path(sys.argv[1])) as held:
        print("held", flush=True)
        for line in sys.stdin:
            try:
                held.require()
                print("held", flush=True)
            except CacheBusyError as error:
                print(error, flush=True)
except CacheBusyError as error:
    print(error, flush=True)
"""


class Child:
    """A writer in another process, which answers each `ask` with a line."""

    def __init__(self, directory: Path, mode: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory), mode],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ask(self) -> str:
        self.start()
        return self.answer()

    def die(self) -> None:
        """Kill it, and leave it uncollected, as a container without an init does."""
        self.process.kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def child(directory: Path, mode: str) -> Iterator[Child]:
    writer = Child(directory, mode)
    try:
        yield writer
    finally:
        writer.process.kill()
        writer.process.communicate()


def failing_flock(number: int) -> Callable[..., None]:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_flock(errno.ENOLCK))


@pytest.fixture(params=["flock", "lease"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "lease":
        request.getfixturevalue("no_flock")
    return request.param


def holding(directory: Path) -> AbstractContextManager[WriterLock]:
    """Hold the lock of a cache."""
    return sole_writer(directory)


def refused(directory: Path) -> str:
    """Return why a writer is refused."""
    with pytest.raises(CacheBusyError) as caught, holding(directory):
        pass
    return str(caught.value)


def this_process() -> dict[str, Any]:
    """Return what a lease of this process says of it."""
    pid = os.getpid()
    return {
        **OTHERS,
        "host": socket.gethostname(),
        "boot": lock._boot(),
        "pid": pid,
        "started": lock._started(pid),
    }


def leave_lease(directory: Path, content: bytes | dict[str, Any], *, age: float = 0) -> Path:
    """Leave a lease that was last touched `age` seconds ago."""
    path = directory / LEASE.format(4)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    back_date(path, age)
    return path


def back_date(path: Path, age: float) -> None:
    then = time.time() - age
    os.utime(path, (then, then))
