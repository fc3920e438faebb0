"""The file of a long list has no name, and a disk without room for it is one sentence."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.large.dicts import LargeDict
from frozen_vqa.cache.large.nameless import NamelessFile
from tests.support.large import in_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with in_files(0):
        yield tmp_path


def test_no_file_is_there_that_a_kill_could_leave(folder: Path) -> None:
    large = LargeDict.of((f"key {number}", number) for number in range(100))
    assert list(folder.iterdir()) == []
    assert len(large) == 100


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate"])
def test_a_full_disk_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CacheError) as caught:
        LargeDict.of((f"key {number}", "value") for number in range(2_000))
    assert str(caught.value) == (
        f"{folder}: cannot be written (No space left on device). The plan of millions of questions "
        f"needs some GB there: make room, or set TMPDIR to a folder on another disk."
    )


def test_what_is_written_is_read(folder: Path) -> None:
    file = NamelessFile()
    file.append(b"one")
    file.append(bytearray(b"two"))
    assert (file.size, file.read(1, 5)) == (6, b"netw")
