"""Leases, where there is no flock: kept alive, taken over when they end, and won by one alone."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import filelock
import pytest
from filelock import SoftFileLease, Timeout

from frozen_vqa.cache.disk import lock
from frozen_vqa.cache.errors import CacheBusyError
from tests.support import locks
from tests.support.locks import (
    LEASE,
    OTHERS,
    back_date,
    child,
    failing_flock,
    holding,
    leave_lease,
    refused,
)

no_flock = locks.no_flock  # a fixture


def this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        **OTHERS,
        "host": socket.gethostname(),
        "boot": lock._boot(),
        "pid": pid,
        "started": lock._started(pid),
    }


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
    with holding(tmp_path) as held:
        renewals.acquire()  # one is under way
    time.sleep(0.2)
    assert held.path.stat().st_mtime == 0


@pytest.mark.parametrize(
    "number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, 524]
)
def test_a_file_system_without_flock(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_flock(number))
    with holding(tmp_path) as held:
        assert held.path == tmp_path / LEASE.format(0)
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
                    held = stack.enter_context(holding(tmp_path))
                    break
                time.sleep(0.02)
            monkeypatch.undo()
            monkeypatch.setattr(fcntl, "flock", failing_flock(errno.ENOLCK))
            os.kill(first.pid, signal.SIGCONT)
            assert "was stopped for so long that another took over" in first.ask()
            first.process.communicate()  # its end does not end the lease of the other
            held.require()
            assert f"process {os.getpid()} on " in refused(tmp_path)


def test_a_lease_whose_next_was_made_is_lost_even_if_its_file_is_there(
    tmp_path: Path, no_flock: None
) -> None:
    with holding(tmp_path) as held:
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
    assert "If it no longer runs, try again in 50 s." in refused(tmp_path)
    back_date(lease, lock.LEASE_STALE + 1)
    with holding(tmp_path) as held:
        assert held.path.name == LEASE.format(5)
        assert not lease.exists()


def test_the_clock_is_that_of_the_file_system(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of this machine is an hour behind that of the server, or an hour ahead."""
    real = os.utime
    for skew in (3600, -3600):

        def utime(path: Any, times: Any = None, skew: int = skew, **how: Any) -> None:
            real(path, times or (time.time() + skew, time.time() + skew), **how)

        monkeypatch.setattr(os, "utime", utime)
        lease = leave_lease(tmp_path, OTHERS)
        os.utime(lease)
        refused(tmp_path)
        back_date(lease, lock.LEASE_STALE + 1 - skew)
        with holding(tmp_path):
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
    with holding(tmp_path) as held:
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
    monkeypatch.setattr(lock, "_boot", lambda: "")
    leave_lease(tmp_path, this_process() | {"pid": 2**22 + 1})
    refused(tmp_path)


def test_a_lease_that_cannot_be_signed_is_given_back(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"), holding(tmp_path):
            pass
    with holding(tmp_path) as held:
        held.require()


def test_a_server_that_does_not_answer_counts_as_lost(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with holding(tmp_path) as held, monkeypatch.context() as patch:
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
                with holding(directory) as held:
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


def test_who_looked_long_ago_takes_nothing(
    tmp_path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at an ended lease and its own, one writer comes and goes, another stays."""
    real = lock._require_over
    leave_lease(tmp_path, OTHERS, age=lock.LEASE_STALE + 1)
    with ExitStack() as stack:
        others: list[Any] = []

        def delayed(directory: Path) -> list[Path]:
            leases = real(directory)
            monkeypatch.setattr(lock, "_require_over", real)
            with holding(tmp_path):
                pass
            others.append(stack.enter_context(holding(tmp_path)))
            return leases

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

    def utime(handle: Any, times: Any = None, **how: Any) -> None:
        lease.unlink(missing_ok=True)
        real(handle, times, **how)

    monkeypatch.setattr(os, "utime", utime)
    assert f"{tmp_path}: another process is writing" in refused(tmp_path)


@pytest.mark.skipif(filelock.__version__ < "4", reason="earlier versions judge holders otherwise")
def test_the_leases_of_filelock_would_not_do(tmp_path: Path) -> None:
    """The day that this fails, ask again whether leases have to be ours."""

    def lease() -> SoftFileLease:
        return SoftFileLease(tmp_path / "lease", timeout=0, lease_duration=120)

    with lease() as mine:
        assert mine.owner is not None
        host = mine.owner.hostname
    boot = uuid.uuid4().int  # of another machine of the same name, on which the holder lives
    (tmp_path / "lease").write_text(
        f"filelock/2\npid={2**22 + 1}\nhost={host}\nmode=lease\ntoken=ab\nduration=120.0\n"
        f"start={boot << 64 | 7}\n"
    )
    with lease():
        pass

    code = "from filelock import SoftFileLease; import sys, time\n"
    code += "lease = SoftFileLease(sys.argv[1], lease_duration=120)\n"
    code += "lease.acquire(); print(flush=True); time.sleep(99)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "lease"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not collected
    with pytest.raises(Timeout):
        lease().acquire()
    holder.communicate()
