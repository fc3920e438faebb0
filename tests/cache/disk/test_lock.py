"""Two live writers never meet, and no dead one is in the way: with flock and with leases."""

import errno
import fcntl
import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from frozen_vqa.cache.disk import lock
from frozen_vqa.cache.errors import CacheBusyError
from tests.support import locks
from tests.support.locks import (
    OTHERS,
    back_date,
    child,
    failing_flock,
    holding,
    leave_lease,
    refused,
)
from tests.support.open_files import open_files

# Fixtures; the second asks for the first.
no_flock, mode = locks.no_flock, locks.mode


def test_a_second_writer_is_refused_until_the_first_is_dead(mode: str, tmp_path: Path) -> None:
    with child(tmp_path, mode) as first:
        assert first.ask() == "held"
        who = rf"process {first.pid} on {socket.gethostname()}, since \d{{4}}-\d\d-\d\d \d\d:"
        with (
            pytest.raises(CacheBusyError, match=rf"\({who}.*another --cache"),
            holding(tmp_path),
        ):
            pass
        assert first.ask() == "held"
        first.die()
        with holding(tmp_path) as taken:
            assert (taken.path.name != ".lock") == (mode == "lease")
            taken.require()
            assert json.loads(taken.path.read_bytes())["pid"] == os.getpid()


def test_a_holder_takes_the_place_of_one_with_a_longer_name(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({**OTHERS, "host": "long" * 100}))
    with holding(tmp_path):
        assert json.loads((tmp_path / ".lock").read_bytes())["pid"] == os.getpid()


def test_the_lock_ends_with_the_block_however_it_ends(mode: str, tmp_path: Path) -> None:
    files, threads = open_files(), set(threading.enumerate())
    with holding(tmp_path) as first:
        first.require()
        assert f"process {os.getpid()} on " in refused(tmp_path)
    with pytest.raises(KeyboardInterrupt), holding(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="of the block"), holding(tmp_path):
        raise OSError(errno.EINVAL, "of the block")
    with holding(tmp_path) as taken:
        taken.require()
    assert open_files() - files == Counter()
    assert set(threading.enumerate()) <= threads
    assert len(list(tmp_path.iterdir())) == (1 if mode == "flock" else 2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_that_outlives_its_killed_parent_does_not_keep_the_lock(
    mode: str, tmp_path: Path
) -> None:
    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        os.close(write)
        with holding(tmp_path):
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            os.read(read, 1)  # until the test ends
            os._exit(0)
    os.waitpid(parent, 0)
    try:
        with holding(tmp_path) as taken:
            taken.require()
    finally:
        os.close(write)
        os.close(read)


@pytest.mark.parametrize("content", [b"\xff", b"\x1b[2J", b"process 5 on a host " * 1000, b""])
def test_a_holder_that_cannot_be_understood_is_unknown(
    content: bytes, mode: str, tmp_path: Path
) -> None:
    with holding(tmp_path) as first:
        first.path.write_bytes(content)
        assert "(unknown)" in refused(tmp_path)


def test_another_failure_of_flock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    monkeypatch.setattr(fcntl, "flock", failing_flock(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), holding(tmp_path):
        pass
    assert open_files() - before == Counter()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lock_file_deleted_under_its_holder(tmp_path: Path) -> None:
    with holding(tmp_path) as first:
        (tmp_path / ".lock").unlink()
        with pytest.raises(CacheBusyError, match=r"\.lock: .* no longer holds .* was deleted"):
            first.require()
        with holding(tmp_path) as second:
            second.require()
            with pytest.raises(CacheBusyError, match="run the same command again"):
                first.require()


def test_a_lock_file_deleted_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a file that is no longer there would keep nobody out."""
    real, path = fcntl.flock, tmp_path / ".lock"
    deletions = [lambda: path.write_text(""), lambda: None]  # made anew by another, and not

    def flock(handle: int, operation: int) -> None:
        if deletions:
            path.unlink()
            deletions.pop()()
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with holding(tmp_path) as taken:
        assert not deletions
        taken.require()
        assert f"process {os.getpid()} on " in refused(tmp_path)


def test_a_process_that_has_flock_respects_a_lease(tmp_path: Path) -> None:
    lease = leave_lease(tmp_path, OTHERS)
    assert "(process 7 on elsewhere, since yesterday)" in refused(tmp_path)
    back_date(lease, lock.LEASE_STALE + 1)
    with holding(tmp_path) as taken:
        assert taken.path.name == ".lock"
        taken.require()


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


@pytest.mark.parametrize("name", [".lock", ".lock.lease-000003", ".lock.lease-000000"])
def test_a_link_in_the_place_of_a_lock_is_not_followed(
    name: str, mode: str, tmp_path: Path
) -> None:
    """A cache from somebody else must not make us write over a file of ours."""
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("three years")
    os.utime(thesis, (7, 7))
    directory = tmp_path / "cache"
    directory.mkdir()
    (directory / name).symlink_to(thesis)

    with suppress(OSError, CacheBusyError), holding(directory):
        pass
    assert thesis.read_text() == "three years"
    assert thesis.stat().st_mtime == 7


@pytest.mark.parametrize("name", [".lock", ".lock.lease-000003", ".lock.lease-000000"])
def test_a_pipe_in_the_place_of_a_lock_does_not_block(name: str, mode: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    with suppress(OSError, CacheBusyError), holding(tmp_path):
        pass


KINDS = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_only_a_regular_file_is_a_lock(make: Callable[[Path], object], tmp_path: Path) -> None:
    """Nothing else is locked or written to, and no lease takes its place: a lock is always one."""
    make(tmp_path / ".lock")
    kind = (tmp_path / ".lock").lstat().st_mode

    with pytest.raises(OSError), holding(tmp_path):  # noqa: PT011  (which one, the system says)
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert (tmp_path / ".lock").lstat().st_mode == kind
