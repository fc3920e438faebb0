"""Leases, where there is no flock: kept alive, given back or lost, and won by one alone."""

import errno
import fcntl
import os
import signal
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache.disk import lock
from frozen_vqa.cache.errors import CacheBusyError
from tests.support import locks
from tests.support.locks import (
    LEASE,
    OTHERS,
    child,
    failing_flock,
    holding,
    leave_lease,
    refused,
    this_process,
)

no_flock = locks.no_flock  # a fixture


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


def test_a_lease_outlasts_a_file_server_that_restarts() -> None:
    """NFS servers wait 90 s for their clients; a sign of life has to fit in after that."""
    assert lock.LEASE_STALE >= 90 + 2 * lock.LEASE_RENEW
