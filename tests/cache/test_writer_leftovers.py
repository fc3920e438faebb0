"""What a writer leaves that dies or meets a full disk, and what of it the next one removes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheError, CacheWriter
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.verify import check_file
from frozen_vqa.cache.writer import own_cache
from tests.support.caches import make_spec
from tests.support.writing import tree, write


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    write(tmp_path)
    ours = ["cache.json", "images/00002.h5", "images/staged-0123456789abcdef.shard.89abcdef",
            "questions/00001.h5", "splits/val.h5"]  # fmt: skip
    others = ["thesis.pdf", "images/cat.jpg", "downloads/00000.h5"]
    (tmp_path / "downloads").mkdir()
    own_cache(tmp_path).note("images/00002.h5", "questions/00001.h5")
    for name in [*ours, *others]:
        (tmp_path / f"{name}.partial").write_bytes(b"half")
    with CacheWriter(tmp_path, make_spec()):
        pass

    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.partial")}
    assert left == {f"{name}.partial" for name in others}


def test_work_of_a_dead_writer_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path)
    before = tree(tmp_path)
    dead = ["images/00002.h5", "images/00001~2.h5", "splits/val~2.h5"]
    staged = ["images/staged-0123456789abcdef.shard", "questions/staged-0123456789abcdef.shard"]
    others = ["images/00003.h5", "images/mine.h5", "images/0001.json", "images/7.h5",
              "splits/mine.h5", "notes.json", "00009.h5", "downloads/00000.h5"]  # fmt: skip
    own_cache(tmp_path).note(*dead)
    (tmp_path / "images" / "00009.h5").mkdir()
    (tmp_path / "downloads").mkdir()
    for name in [*dead, *staged, *others]:
        (tmp_path / name).write_bytes(b"what it was")
    with CacheWriter(tmp_path, make_spec()):  # staged chunks may be of use to it
        assert set(tree(tmp_path)) == {*before, *others, *staged}
    assert set(tree(tmp_path)) == set(before) | set(others)


class FullAt:
    """From the n-th call of this kind on, the disk is full."""

    def __init__(self, number: int, real: Callable[..., Any]) -> None:
        self.left, self.real = number, real

    def __call__(self, *words: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.real(*words)


CALLS = [("replace", number) for number in range(20)]
CALLS += [("write", number) for number in range(17)]
CALLS += [("fsync", number) for number in range(41)]


@pytest.mark.parametrize(("call", "number"), CALLS)
def test_a_full_disk_ends_in_one_sentence_and_a_whole_cache(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "undisturbed")
    whole = tree(tmp_path / "undisturbed")
    directory = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, FullAt(number, getattr(os, call)))
        with pytest.raises(CacheError, match=r"cannot be written .*\(No space left") as found:
            write(directory)

    assert not list(directory.rglob("*.partial"))
    if (directory / "cache.json").exists():
        assert "What was stored before is whole. Make room" in str(found.value)
        manifest = load_manifest(directory)
        for record in manifest.files:
            assert check_file(directory, manifest, record) is None
            assert (directory / record.file).read_bytes() == whole[record.file]
