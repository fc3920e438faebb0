"""A stage that others use or that holds other things: bounded, and nothing of theirs goes."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheError, FeatureCache, arrivals, load_manifest
from frozen_vqa.cache.arrivals import Record
from frozen_vqa.cache.stores import stage as stage_module
from frozen_vqa.cache.stores.copies import object_name
from frozen_vqa.cache.stores.stage import Stage, default_stage, open_stage
from frozen_vqa.cache.verify import verify
from tests.support import stores
from tests.support.command import run_command
from tests.support.several_shards import PICTURES, ROWS, read
from tests.support.stores import URL, memory, push

empty, cache = stores.empty, stores.cache  # fixtures; the first is in force in every test


def held(folder: Path) -> int:
    """Return the bytes of all objects of a stage."""
    return sum(path.stat().st_size for path in folder.rglob("*.h5"))


def test_processes_together_take_no_more_room_and_each_reads_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stages of one folder stand for two processes, of which each removes what it likes."""
    sizes = [record.bytes for record in load_manifest(cache).images]
    room = sum(sizes) - min(sizes)
    monkeypatch.setattr(stage_module, "LOOK_SECONDS", -1.0)
    with memory(monkeypatch):
        push(cache)
        one = FeatureCache(open_stage(URL, tmp_path, room=room))
        mine = arrivals.arrivals_of(one.directory)
        other = Stage(URL, tmp_path, room)
        assert mine
        for step in range(12):
            row = (0, 3, 4)[step % 3]
            assert np.array_equal(read(one, [row]), PICTURES[[row]])
            one._shards.clear()
            other.bring(one.manifest.images[(step + 1) % 3])
            assert held(tmp_path) <= room


class Greedy:
    """Another process removes each object a few times, just before it is read."""

    def __init__(self, stage: Stage) -> None:
        self.address, self.folder, self.gone = stage.address, stage.folder, stage.gone
        self._stage = stage
        self.asked: dict[str, int] = {}

    def bring(self, record: Record) -> Path:
        path = self._stage.bring(record)
        self.asked[record.xxh3] = self.asked.get(record.xxh3, 0) + 1
        if self.asked[record.xxh3] < 4:
            path.unlink()
        return path

    def forget(self, record: Record) -> None:
        self._stage.forget(record)

    def expect(self, records: Sequence[Record], *, together: bool = False) -> None:
        self._stage.expect(records, together=together)


def test_what_goes_before_it_is_read_comes_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(cache)
        stage = Stage(URL, tmp_path, None)
        arrivals.register(stage.directory, Greedy(stage))
        there = FeatureCache(stage.directory)
        assert np.array_equal(read(there, [*range(ROWS)]), PICTURES)
        assert there.questions.texts == FeatureCache(cache).questions.texts
        arrivals.register(stage.directory, Greedy(stage))
        assert not [damage for _, damage in verify(there.directory, there.manifest) if damage]


@pytest.mark.parametrize("at", [0.0, 0.5, 0.999])
def test_what_a_loss_of_power_damaged_comes_again_or_the_stage_is_named(
    at: float, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(cache)
        there = FeatureCache(open_stage(URL, tmp_path))
        assert np.array_equal(read(there, [0, 3, 4]), PICTURES[[0, 3, 4]])
        for path in tmp_path.rglob("*.h5"):
            data = bytearray(path.read_bytes())
            data[int(at * len(data)) : int(at * len(data)) + 64] = bytes(64)
            path.write_bytes(data)
        again = FeatureCache(open_stage(URL, tmp_path))
        try:
            found = read(again, [0, 3, 4])
        except CacheError as error:  # a row, which is checked when it is read
            assert f"verify-cache {URL} --stage {tmp_path}`" in str(error)  # noqa: PT017
            run = run_command("verify-cache", URL, "--stage", tmp_path)
            assert run.code == 0, run.err
            found = read(FeatureCache(open_stage(URL, tmp_path)), [0, 3, 4])
        assert np.array_equal(found, PICTURES[[0, 3, 4]])


def test_what_another_process_is_writing_stays_and_what_a_dead_one_wrote_goes(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(cache)
        stage = Stage(URL, tmp_path, None)
        path = stage.bring(load_manifest(cache).images[0])
        now, old = (path.with_name(f"{path.name}.0000000{i}.partial") for i in (1, 2))
        for half in (now, old):
            half.write_bytes(b"half")
        os.utime(old, (1e9, 1e9))
        Stage(URL, tmp_path, None)
        assert (now.exists(), old.exists()) == (True, False)


def test_a_store_and_links_in_the_folder_lose_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a stage that has no room left."""
    stage, place = tmp_path / "stage", tmp_path / "stage/memory/bucket"
    with memory(monkeypatch):
        push(cache)
        open_stage(URL, stage)
    push(cache, url=f"file://{stage}/store")  # people keep their caches anywhere
    push(cache, url=f"file://{tmp_path}/far")
    (stage / "gs").symlink_to(tmp_path / "far")
    (place / "other").symlink_to(tmp_path / "far")
    kept = [*tmp_path.glob("far/*/*"), *stage.glob("store/*/*")]
    with memory(monkeypatch):
        largest = max(record.bytes for record in load_manifest(cache).images)
        there = FeatureCache(open_stage(URL, stage, room=largest))
        assert np.array_equal(read(there, [0, 3, 4]), PICTURES[[0, 3, 4]])
        assert all(path.exists() for path in kept)
        push(cache, url="memory://bucket/other")
        with pytest.raises(CacheError, match="a link or a file stands in place of a folder"):
            open_stage("memory://bucket/other", stage)
        assert not (tmp_path / "far" / "cache.json").is_symlink()


def test_pages_of_the_manifest_take_room_as_shards_do(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(cache)
        stage = Stage(URL, tmp_path, 100_000)
        page = stage.directory / "manifest" / f"{'0' * 32}.json"
        page.parent.mkdir()
        page.write_bytes(bytes(99_000))
        os.utime(page, (1e9, 1e9))
        record = load_manifest(cache).images[0]
        Stage(URL, tmp_path, 100_000).bring(record)
        assert not page.exists()
        assert (stage.directory / object_name(record)).exists()


def test_the_stage_of_a_user_is_in_the_home_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for odd in ("", "relative", "~/x"):
        monkeypatch.setenv("XDG_CACHE_HOME", odd)
        assert default_stage() == tmp_path / ".cache" / "frozen-vqa" / "stage"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert default_stage() == tmp_path / "own" / "frozen-vqa" / "stage"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without a home
    with pytest.raises(CacheError, match="Give one by --stage, or set HOME"):
        default_stage()
