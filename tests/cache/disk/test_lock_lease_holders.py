"""Whether the holder of a lease still lives: told by its process, or by its last sign of life."""

import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import filelock
import pytest
from filelock import SoftFileLease, Timeout
from packaging.version import Version

from frozen_vqa.cache.disk import lock
from tests.support import locks
from tests.support.locks import (
    LEASE,
    OTHERS,
    back_date,
    holding,
    leave_lease,
    refused,
    this_process,
)

no_flock = locks.no_flock  # a fixture


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


@pytest.mark.skipif(
    Version(filelock.__version__) < Version("4"), reason="earlier versions judge holders otherwise"
)
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
