"""`verify-cache` reads every file, and names the damaged ones, their rows, and whose these are."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheError, CacheWriter, Failure, FeatureCache
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.format.shards import NewQuestions
from frozen_vqa.cache.verify import Damage, check_copies, check_file, verify
from tests.support.caches import add_questions, make_spec
from tests.support.several_shards import STATES, flip_row, write


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A cache that a test may damage."""
    write(tmp_path)
    return tmp_path


def test_every_damaged_byte_of_every_file_is_found(mine: Path) -> None:
    manifest = load_manifest(mine)
    for record in manifest.files:
        path = mine / record.file
        data = path.read_bytes()
        for place in {0, len(data) // 3, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            damage = check_file(mine, manifest, record)
            assert damage is not None
            assert damage.file == record.file
            assert "not what was written" in damage.reason or "not those that" in damage.reason
        for wrong in (data[:-1], data + b"\0", b""):
            path.write_bytes(wrong)
            expected = f"has {len(wrong):,} bytes instead of {len(data):,}"
            assert check_file(mine, manifest, record) == Damage(record.file, expected)
        path.unlink()
        assert check_file(mine, manifest, record) == Damage(record.file, "the file is missing")
        path.mkdir()
        expected = "cannot be read (not a regular file)"
        assert check_file(mine, manifest, record) == Damage(record.file, expected)
        path.rmdir()
        path.write_bytes(data)
        assert check_file(mine, manifest, record) is None


@pytest.mark.parametrize(
    ("file", "dataset", "row", "names"),
    [
        ("images/00002.h5", "patch_embeddings", 1, ["p5"]),
        ("images/00000.h5", "cls", 2, ["p2"]),
        ("questions/00001.h5", "hidden_states", 1, [""]),
        ("questions/00000.h5", "hidden_states", 0, ["one", "zwei"]),
        ("questions/00000.h5", "hidden_states", 3, ["zwei"]),
    ],
)
def test_the_rows_of_a_damaged_shard_are_named(
    file: str, dataset: str, row: int, names: list[str], mine: Path
) -> None:
    flip_row(mine / file, dataset, row)
    manifest = load_manifest(mine)
    record = next(record for record in manifest.files if record.file == file)

    reason = "1 rows are not what was written"
    assert check_file(mine, manifest, record) == Damage(file, reason, [row], names)


def test_questions_of_a_later_shard_are_named_by_its_own_rows(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_questions(
            writer, NewQuestions(["a"], [[0, 1]], np.array([-1, 0]), np.arange(2), STATES[:2])
        )
        paths = [[0, 2], [0, 1, 3]]
        add_questions(
            writer, NewQuestions(["b", "c"], paths, np.array([0, 1]), np.arange(2), STATES[2:4])
        )
    manifest = load_manifest(tmp_path)
    for row, name in ((0, "b"), (1, "c")):
        flip_row(tmp_path / "questions" / "00001.h5", "hidden_states", row)
        damage = check_file(tmp_path, manifest, manifest.questions[1])
        assert damage is not None
        assert (damage.rows, damage.names) == ([row], [name])
        flip_row(tmp_path / "questions" / "00001.h5", "hidden_states", row)


def test_all_files_are_read_and_the_damaged_ones_named(mine: Path) -> None:
    flip_row(mine / "images" / "00002.h5", "cls", 0)
    (mine / "splits" / "test.h5").write_bytes(b"")
    manifest = load_manifest(mine)

    found = list(verify(mine, manifest))
    assert sorted(r.file for r, _ in found) == sorted(r.file for r in manifest.files)
    damaged = sorted(damage.file for _, damage in found if damage)
    assert damaged == ["images/00002.h5", "splits/test.h5"]


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


FAILED = Failure(7, "row 7", "no question", "more")
DIFFERS, MISSING = "differs from cache.json", "is missing"
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "altered": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), DIFFERS),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-1]), DIFFERS),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b" "), DIFFERS),
    "empty": (lambda path: path.write_bytes(b""), DIFFERS),
    "gone": (Path.unlink, MISSING),
    "a link to nothing": (replaced(lambda path: path.symlink_to("nothing")), MISSING),
    "a link to itself": (replaced(lambda path: path.symlink_to(path.name)), "cannot be read"),
    "a folder": (replaced(Path.mkdir), "cannot be read (not a regular file)"),
    "a pipe": (replaced(os.mkfifo), "cannot be read (not a regular file)"),
}


@pytest.mark.parametrize("name", ["cache.copy.json", "failures.jsonl"])
@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_second_copy_that_is_not_as_written_is_told_and_written_again(
    change: Callable[[Path], object], reason: str, name: str, mine: Path
) -> None:
    """Altered, missing and unreadable are three things."""
    with CacheWriter(mine, make_spec()) as writer:
        writer.set_split("more", FeatureCache(mine).split("val"), failures=[FAILED])
    manifest, whole = load_manifest(mine), (mine / name).read_bytes()
    assert check_copies(mine, manifest) == []
    change(mine / name)

    (damage,) = check_copies(mine, manifest)
    assert damage.file == name
    assert damage.reason.startswith(f"{reason}{'' if 'cannot' in reason else ';'}")
    if (mine / name).is_dir():  # which may be somebody's
        message = "cannot be written (Is a directory)"
        with pytest.raises(CacheError, match=re.escape(f"{mine / name}: {message}")):
            CacheWriter(mine, make_spec()).__enter__()
        return
    with CacheWriter(mine, make_spec()):
        pass
    assert (mine / name).read_bytes() == whole


def test_a_second_copy_on_a_failing_disk_is_not_called_whole(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, manifest = os.open, load_manifest(mine)

    def fail(path: str, *args: int, **settings: object) -> int:
        if Path(path).name == "cache.copy.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *args, **settings)

    monkeypatch.setattr(os, "open", fail)
    (damage,) = check_copies(mine, manifest)
    assert (damage.file, damage.reason[:33]) == (
        "cache.copy.json",
        "cannot be read (Input/output erro",
    )
