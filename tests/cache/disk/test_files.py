"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_vqa.cache.disk import files
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.format.digests import digest, row_digest, row_digests
from tests.support.repository import ROOT

OLD, NEW = b"old " * 5, b"new " * 7


class Interrupted(BaseException):
    """As KeyboardInterrupt is: no Exception."""


def fail_at(step: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    if step != "write":
        monkeypatch.setattr(os, step, fail)
    else:
        real = os.write

        def half(handle: int, data: memoryview) -> None:
            real(handle, data[: len(data) // 2])
            raise error

        monkeypatch.setattr(os, "write", half)


@contextmanager
def python(code: str) -> Iterator[subprocess.Popen[str]]:
    """Run `code` in another process, which is gone at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("advice", ["taken", "refused", "unknown here"])
def test_the_disk_begins_with_what_is_written_before_all_is(
    advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WRITE_BYTES", 10)
    advised, data = [], bytes(range(95))

    def advise(handle: int, place: int, count: int, kind: int) -> None:
        assert kind == os.POSIX_FADV_DONTNEED
        advised.extend(range(place, place + count))
        assert os.fstat(handle).st_size == len(advised)  # all that is written, and no more
        if advice == "refused":
            raise OSError(errno.EINVAL, "Invalid argument")

    if advice == "unknown here":
        monkeypatch.delattr(os, "posix_fadvise")
    else:
        monkeypatch.setattr(os, "posix_fadvise", advise)
    write_atomically(tmp_path / "file", data[:40], data[40:])

    assert (tmp_path / "file").read_bytes() == data
    assert advised == ([] if advice == "unknown here" else list(range(90)))  # fsync takes the rest


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.binary(max_size=50), st.booleans())
def test_a_written_file_holds_its_data_and_nothing_else_is_left(
    tmp_path: Path, data: bytes, viewed: bool
) -> None:
    write_atomically(tmp_path / "made" / "file", memoryview(data) if viewed else data)

    assert (tmp_path / "made" / "file").read_bytes() == data
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["file"]


@pytest.mark.parametrize("old", [OLD, None])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "bad disk"), Interrupted()]
)
@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(
    step: str,
    error: BaseException,
    old: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        fail_at(step, error, patch)
        with pytest.raises(type(error)) as raised:
            write_atomically(path, NEW)

    assert raised.value is error
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == (
        {} if old is None else {"file": old}
    )


def test_a_folder_that_cannot_be_synced_is_told_and_the_file_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 2:
            raise OSError(errno.EIO, "bad disk")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="bad disk"):
        write_atomically(tmp_path / "file", NEW)

    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": NEW}


def test_data_reach_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            steps.append(name)
            return real(*args)

        return noted

    monkeypatch.setattr(os, "fsync", noting("sync", os.fsync))
    monkeypatch.setattr(os, "replace", noting("rename", os.replace))
    write_atomically(tmp_path / "file", NEW)

    assert steps == ["sync", "rename", "sync"]


@pytest.mark.parametrize(
    ("kill", "expected"),
    [
        ("files.os.fsync = die", OLD),  # written, not yet named
        ("files.os.replace = die", OLD),
        ("files.sync_directory = die", NEW),  # named, the folder not yet synced
    ],
)
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(
    kill: str, expected: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "images" / "00000.h5"
    path.parent.mkdir()
    path.write_bytes(OLD)
    (tmp_path / "holiday.partial").write_bytes(b"of somebody else")
    code = (
        "import os, signal; from pathlib import Path; from frozen_vqa.cache.disk import files\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{kill}\n"
        f"files.write_atomically(Path({str(path)!r}), {NEW!r})"
    )
    with python(code) as writer:
        assert writer.wait() == -signal.SIGKILL

    assert path.read_bytes() == expected
    write_atomically(path, NEW)  # what the dead one has left is not in the way
    assert [p.name for p in path.parent.iterdir()] == ["00000.h5"]
    assert (tmp_path / "holiday.partial").read_bytes() == b"of somebody else"


def test_digests_are_those_of_the_bytes() -> None:
    rows = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
    expected = [xxhash.xxh3_64_intdigest(row.tobytes()) for row in rows]
    strided = np.repeat(rows, 2, axis=2)[:, :, ::2]  # equal, but not contiguous

    assert row_digests(rows).tolist() == row_digests(strided).tolist() == expected
    assert row_digests(rows).dtype == np.uint64
    assert row_digest(rows[1]) == expected[1]
    assert row_digests(rows[:0]).tolist() == []
    assert digest(b"abc") == xxhash.xxh3_128_hexdigest(b"abc")
