"""Two live writers never meet, and no dead one is in the way: with flock and with leases."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cache import holder, lock
from cache.errors import CacheBusyError
from cache.lock import sole_writer

ROOT = Path(__file__).parents[1]
LEASE = ".lock.lease-{:06d}"
OTHERS = {"host": "elsewhere", "boot": "b", "pid": 7, "started": "1", "since": "yesterday"}

CHILD = """
import errno, sys
from pathlib import Path
from cache import lock
from cache.errors import CacheBusyError

def no_flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")

if sys.argv[2] == "lease":
    lock.fcntl.flock = no_flock
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
    monkeypatch.setattr(lock.fcntl, "flock", failing_flock(errno.ENOLCK))


@pytest.fixture(params=["flock", "lease"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "lease":
        request.getfixturevalue("no_flock")
    return request.param


def refused(directory: Path) -> str:
    """Return why a writer is refused."""
    with pytest.raises(CacheBusyError) as caught, sole_writer(directory):
        pass
    return str(caught.value)


def leave_lease(directory: Path, content: bytes | dict[str, Any], *, age: float = 0) -> Path:
    """Leave a lease that was last touched `age` seconds ago."""
    path = directory / LEASE.format(4)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    back_date(path, age)
    return path


def back_date(path: Path, age: float) -> None:
    then = time.time() - age
    os.utime(path, (then, then))


def this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        **OTHERS,
        "host": socket.gethostname(),
        "boot": holder._boot(),
        "pid": pid,
        "started": holder._started(pid),
    }


def test_a_second_writer_is_refused_until_the_first_is_dead(mode: str, tmp_path: Path) -> None:
    with child(tmp_path, mode) as first:
        assert first.ask() == "held"
        who = rf"process {first.pid} on {socket.gethostname()}, since \d{{4}}-\d\d-\d\d \d\d:"
        with (
            pytest.raises(CacheBusyError, match=rf"\({who}.*another --cache"),
            sole_writer(tmp_path),
        ):
            pass
        assert first.ask() == "held"
        first.die()
        with sole_writer(tmp_path) as held:
            assert held.leased == (mode == "lease")
            held.require()
            assert json.loads(held.path.read_bytes())["pid"] == os.getpid()


def test_the_lock_ends_with_the_block_however_it_ends(mode: str, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd"), threading.active_count()
    with sole_writer(tmp_path) as first:
        first.require()
        assert f"process {os.getpid()} on " in refused(tmp_path)
    with pytest.raises(KeyboardInterrupt), sole_writer(tmp_path):
        raise KeyboardInterrupt
    with sole_writer(tmp_path) as held:
        held.require()
    assert (os.listdir("/proc/self/fd"), threading.active_count()) == before
    assert len(list(tmp_path.iterdir())) == (1 if mode == "flock" else 2)


def test_what_stood_in_the_lock_before_is_gone(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 5 on a host with a long name " * 100)
    with sole_writer(tmp_path):
        assert f"process {os.getpid()} on " in refused(tmp_path)


def test_a_lease_that_was_given_back_is_not_renewed(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, renewals = os.utime, threading.Semaphore(0)

    def utime(path: Any, times: Any = None) -> None:
        if threading.current_thread() is not threading.main_thread():
            renewals.release()
            time.sleep(0.1)
        real(path, times)

    monkeypatch.setattr(os, "utime", utime)
    monkeypatch.setattr(lock, "LEASE_RENEW", 0)
    with sole_writer(tmp_path) as held:
        renewals.acquire()  # one is under way
    time.sleep(0.2)
    assert held.path.stat().st_mtime == 0


@pytest.mark.parametrize(
    "number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, 524]
)
def test_a_file_system_without_flock(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock.fcntl, "flock", failing_flock(number))
    with sole_writer(tmp_path) as held:
        assert held.path == tmp_path / LEASE.format(0)
        assert f"process {os.getpid()} on " in refused(tmp_path)


def test_another_failure_of_flock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(lock.fcntl, "flock", failing_flock(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), sole_writer(tmp_path):
        pass
    assert os.listdir("/proc/self/fd") == before
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lock_file_deleted_under_its_holder(tmp_path: Path) -> None:
    with sole_writer(tmp_path) as first:
        (tmp_path / ".lock").unlink()
        with pytest.raises(CacheBusyError, match=r"\.lock: .* no longer holds .* was deleted"):
            first.require()
        with sole_writer(tmp_path) as second:
            second.require()
            with pytest.raises(CacheBusyError, match="run the same command again"):
                first.require()


def test_a_lock_file_deleted_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a file that is no longer there would keep nobody out."""
    real, path = lock.fcntl.flock, tmp_path / ".lock"
    deletions = [lambda: path.write_text(""), lambda: None]  # made anew by another, and not

    def flock(handle: int, operation: int) -> None:
        if deletions:
            path.unlink()
            deletions.pop()()
        real(handle, operation)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with sole_writer(tmp_path) as held:
        assert not deletions
        held.require()
        assert f"process {os.getpid()} on " in refused(tmp_path)


def test_a_lease_is_kept_alive(tmp_path: Path, no_flock: None) -> None:
    with child(tmp_path, "lease") as first:
        assert first.ask() == "held"
        lease = tmp_path / LEASE.format(0)
        for _ in range(3):
            long_ago = time.time() - 1000
            os.utime(lease, (long_ago, long_ago))
            while lease.stat().st_mtime < long_ago + 900:
                time.sleep(0.01)
        assert f"process {first.pid} on " in refused(tmp_path)


def test_a_suspended_holder_loses_its_lease_and_is_told(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(tmp_path, "lease") as first:
        assert first.ask() == "held"
        os.kill(first.pid, signal.SIGSTOP)
        refused(tmp_path)
        monkeypatch.setattr(lock, "LEASE_STALE", 0.2)
        with ExitStack() as stack:
            while True:
                with suppress(CacheBusyError):
                    held = stack.enter_context(sole_writer(tmp_path))
                    break
                time.sleep(0.02)
            monkeypatch.undo()
            monkeypatch.setattr(lock.fcntl, "flock", failing_flock(errno.ENOLCK))
            os.kill(first.pid, signal.SIGCONT)
            assert "was stopped for so long that another took over" in first.ask()
            first.process.communicate()  # its end does not end the lease of the other
            held.require()
            assert f"process {os.getpid()} on " in refused(tmp_path)


def test_a_lease_whose_next_was_made_is_lost_even_if_its_file_is_there(
    tmp_path: Path, no_flock: None
) -> None:
    with sole_writer(tmp_path) as held:
        (tmp_path / LEASE.format(1)).write_text("")
        with pytest.raises(CacheBusyError, match="another took over"):
            held.require()


@pytest.mark.parametrize(
    "content",
    [
        OTHERS,
        {**OTHERS, "host": socket.gethostname()},  # another boot, or another container
        b"",  # killed between making it and writing into it
        b"process 5 on host",
        b"[" * 100_000,
        b"[1]",
        b"\xff",
        {"pid": 7},
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_holder_of_which_nothing_is_known_is_judged_by_its_last_sign_of_life(
    content: bytes | dict[str, Any], tmp_path: Path, no_flock: None
) -> None:
    lease = leave_lease(tmp_path, content, age=lock.LEASE_STALE - 50)
    assert "If it runs no more, try again in 50 s." in refused(tmp_path)
    back_date(lease, lock.LEASE_STALE + 1)
    with sole_writer(tmp_path) as held:
        assert held.path.name == LEASE.format(5)
        assert not lease.exists()


def test_the_clock_is_that_of_the_file_system(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of this machine is an hour behind that of the server, or an hour ahead."""
    real = os.utime
    for skew in (3600, -3600):

        def utime(path: Any, times: Any = None, skew: int = skew) -> None:
            real(path, times or (time.time() + skew, time.time() + skew))

        monkeypatch.setattr(os, "utime", utime)
        lease = leave_lease(tmp_path, OTHERS)
        os.utime(lease)
        refused(tmp_path)
        back_date(lease, lock.LEASE_STALE + 1 - skew)
        with sole_writer(tmp_path):
            pass
        (tmp_path / LEASE.format(5)).unlink()


@pytest.mark.parametrize("pid", ["7", -1, 0, 10**30, None])
def test_a_process_number_that_is_none(pid: object, tmp_path: Path, no_flock: None) -> None:
    leave_lease(tmp_path, this_process() | {"pid": pid})
    assert "(unknown)" in refused(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"started": "1"}, {"pid": 2**22 + 1}],
    ids=["its number is that of another by now", "no such process"],
)
def test_a_dead_process_of_this_machine_is_over_at_once(
    changes: dict[str, Any], tmp_path: Path, no_flock: None
) -> None:
    leave_lease(tmp_path, this_process())
    refused(tmp_path)
    leave_lease(tmp_path, this_process() | changes)
    with sole_writer(tmp_path) as held:
        held.require()


def test_a_process_that_may_not_be_looked_at_is_alive(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc shows only one's own processes, another user's has no start time."""

    def kill(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    leave_lease(tmp_path, this_process() | {"pid": 2**22 + 1})
    refused(tmp_path)


def test_where_the_boot_is_not_known_nobody_is_dead_at_once(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "_boot", lambda: "")
    leave_lease(tmp_path, this_process() | {"pid": 2**22 + 1})
    refused(tmp_path)


def test_who_has_flock_respects_a_lease(tmp_path: Path) -> None:
    lease = leave_lease(tmp_path, OTHERS)
    assert "(process 7 on elsewhere, since yesterday)" in refused(tmp_path)
    back_date(lease, lock.LEASE_STALE + 1)
    with sole_writer(tmp_path) as held:
        assert not held.leased
        held.require()


def test_a_lease_that_cannot_be_signed_is_given_back(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"), sole_writer(tmp_path):
            pass
    with sole_writer(tmp_path) as held:
        held.require()


def test_a_server_that_does_not_answer_counts_as_lost(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with sole_writer(tmp_path) as held, monkeypatch.context() as patch:
        patch.setattr(os, "utime", stale)
        with pytest.raises(CacheBusyError, match=r"took over \(Stale file handle\)"):
            held.require()


@pytest.mark.parametrize("before", ["nothing", "ended", "dead"])
def test_of_many_takers_one_wins(before: str, tmp_path: Path, no_flock: None) -> None:
    takers = 6
    for turn in range(20):
        directory = tmp_path / str(turn)
        directory.mkdir()
        if before == "ended":
            leave_lease(directory, this_process(), age=time.time())
        elif before == "dead":
            leave_lease(directory, this_process() | {"started": "1"})
        begin, end = threading.Barrier(takers, timeout=20), threading.Barrier(takers, timeout=20)
        outcomes: list[str] = []

        def take(
            directory: Path = directory,
            begin: threading.Barrier = begin,
            end: threading.Barrier = end,
            outcomes: list[str] = outcomes,
        ) -> None:
            begin.wait()
            try:
                with sole_writer(directory) as held:
                    outcomes.append("won")
                    end.wait()
                    held.require()
                    outcomes.append("held")
            except CacheBusyError:
                outcomes.append("lost")
                end.wait()

        threads = [threading.Thread(target=take, daemon=True) for _ in range(takers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["held"] + ["lost"] * (takers - 1) + ["won"]


def test_of_several_processes_one_wins(mode: str, tmp_path: Path) -> None:
    if mode == "lease":
        leave_lease(tmp_path, OTHERS, age=lock.LEASE_STALE + 1)
    with ExitStack() as stack:
        writers = [stack.enter_context(child(tmp_path, mode)) for _ in range(4)]
        for writer in writers:
            writer.start()
        answers = sorted(writer.answer() for writer in writers)
        assert answers[0].startswith(f"{tmp_path}: another process is writing")
        assert [answer for answer in answers if answer == "held"] == ["held"]


def test_who_looked_long_ago_takes_nothing(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at an ended lease and its own, one writer comes and goes, another stays."""
    real = lock._require_over
    leave_lease(tmp_path, OTHERS, age=lock.LEASE_STALE + 1)
    with ExitStack() as stack:
        others: list[Any] = []

        def delayed(lease: Path, *, now: float) -> None:
            real(lease, now=now)
            monkeypatch.setattr(lock, "_require_over", real)
            with sole_writer(tmp_path):
                pass
            others.append(stack.enter_context(sole_writer(tmp_path)))

        monkeypatch.setattr(lock, "_require_over", delayed)
        refused(tmp_path)
        (other,) = others
        other.require()
        assert other.path.name == LEASE.format(6)


def test_a_lease_that_goes_while_it_is_looked_at(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes it has made the next one."""
    lease = leave_lease(tmp_path, OTHERS, age=lock.LEASE_STALE + 1)
    real = os.utime

    def utime(handle: Any, times: Any = None) -> None:
        lease.unlink(missing_ok=True)
        real(handle, times)

    monkeypatch.setattr(os, "utime", utime)
    assert f"{tmp_path}: another process is writing" in refused(tmp_path)


@pytest.mark.parametrize("name", [".lock", ".lock.lease-000003"])
def test_a_link_in_the_place_of_a_lock_is_not_followed(name: str, tmp_path: Path) -> None:
    """A cache from somebody else must not make us write over a file of ours."""
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("three years")
    directory = tmp_path / "cache"
    directory.mkdir()
    (directory / name).symlink_to(thesis)

    with suppress(OSError, CacheBusyError), sole_writer(directory):
        pass
    assert thesis.read_text() == "three years"


@pytest.mark.parametrize("name", [".lock", ".lock.lease-000003"])
def test_a_pipe_in_the_place_of_a_lock_does_not_block(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    with suppress(OSError, CacheBusyError), sole_writer(tmp_path):
        pass
