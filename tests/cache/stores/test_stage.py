"""A cache at a URL reads as one on this disk, through a folder that never holds too much."""

import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheError, FeatureCache, arrivals, load_manifest
from frozen_vqa.cache.errors import ObjectError, StoreError
from frozen_vqa.cache.memory import ResidentImages
from frozen_vqa.cache.stores.copies import object_name
from frozen_vqa.cache.stores.stage import open_stage
from frozen_vqa.cache.verify import verify
from tests.support import stores
from tests.support.caches import PATCHES, VISION_DIM, Row, make_cache
from tests.support.several_shards import PICTURES, ROWS, read
from tests.support.stores import URL, Flaky, memory, push

empty, cache = stores.empty, stores.cache  # fixtures; the first is in force in every test


def held(folder: Path) -> int:
    """Return the bytes of all objects of a stage."""
    return sum(path.stat().st_size for path in folder.rglob("*.h5"))


@pytest.mark.parametrize("shards", [1, 2, 9])
def test_rows_are_those_of_a_local_cache_whatever_fits(
    cache: Path, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(cache)
    sizes = [record.bytes for record in manifest.images]
    room = shards * max(sizes)
    order = np.random.default_rng(shards).permutation(2 * ROWS).tolist()
    with memory(monkeypatch) as store:
        push(cache)
        store.asked.clear()
        there = FeatureCache(open_stage(URL, tmp_path, room=room))
        local = FeatureCache(cache)
        assert arrivals.address_of(there.directory) == URL
        for row in order:
            assert np.array_equal(read(there, [row % ROWS]), read(local, [row % ROWS]))
            assert held(tmp_path) <= room
        maps = sum(manifest.images[index].bytes for index in there._shards)
        assert maps <= room, "a map keeps the room of a file that is gone"
        assert there.image_ids() == local.image_ids()
        assert np.array_equal(ResidentImages(there).rows, PICTURES)
        assert held(tmp_path) <= room
        if shards == 9:  # all fit: each came once
            assert list(there.questions.texts) == list(local.questions.texts)
            assert store.asked["cat_file"] == 1 + len(manifest.images) + len(manifest.questions)


def test_shards_come_ahead_in_the_order_of_use_and_a_hot_epoch_asks_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch, Flaky(seconds=0.005)) as store:
        push(cache)
        there = FeatureCache(open_stage(URL, tmp_path, room=1 << 30))
        there.expect(np.array([7, 0, 6]), together=True)
        coming = arrivals.arrivals_of(there.directory)
        assert coming
        while coming._coming:  # type: ignore[attr-defined]  # without being asked for
            time.sleep(0.01)
        names = [object_name(there.manifest.images[i]).rpartition("/")[2] for i in (2, 0)]
        assert {path.name for path in tmp_path.rglob("*.h5")} == set(names)
        asked = store.calls
        assert np.array_equal(read(there, [7, 0, 6]), PICTURES[[7, 0, 6]])
        again = FeatureCache(open_stage(URL, tmp_path, room=1 << 30))
        assert np.array_equal(read(again, [7, 0, 6]), PICTURES[[7, 0, 6]])
        assert store.calls == asked + 1  # the manifest


def test_what_is_needed_together_must_fit(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(cache)
        there = FeatureCache(open_stage(URL, tmp_path, room=20_000))
        with pytest.raises(StoreError, match=r"read again and again, .* --residency ram or gpu"):
            there.expect(np.arange(ROWS), together=True)
        tiny = FeatureCache(open_stage(URL, tmp_path, room=1000))
        with pytest.raises(StoreError, match=r"a shard has [\d,]+ bytes, and the stage"):
            read(tiny, [0])


def test_what_was_used_last_stays_of_whichever_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_cache(tmp_path / "other", {"val": [Row(0, 0)]}).directory
    stage = tmp_path / "stage"
    with memory(monkeypatch):
        push(cache)
        push(other, url="memory://bucket/other")
        first = FeatureCache(open_stage(URL, stage))
        for row in (0, 3, 4, 0):
            read(first, [row])
        for number, place in enumerate((1, 0, 2)):  # the second one was used longest ago
            path = first.directory / object_name(first.manifest.images[place])
            os.utime(path, (1e9 + number, 1e9 + number))
        sizes = [record.bytes for record in first.manifest.images]
        second = FeatureCache(open_stage("memory://bucket/other", stage, room=sum(sizes)))
        out = np.empty((1, PATCHES, VISION_DIM), np.float16)
        second.read_images(np.array([0]), out)
        left = {path.stem for path in (stage / "memory" / "bucket" / "vqa").rglob("*.h5")}
        assert first.manifest.images[1].xxh3 not in left
        assert first.manifest.images[0].xxh3 in left


def test_a_store_that_fails_and_cuts_gives_the_same_rows(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(cache)
    for seed in range(3):
        flaky = Flaky(fails=0.05, cuts=0.05, seed=seed)
        with memory(monkeypatch, flaky):
            there = FeatureCache(open_stage(URL, tmp_path / str(seed)))
            assert np.array_equal(ResidentImages(there).rows, PICTURES)
        assert flaky.calls < 10


def test_a_damaged_or_lost_object_is_a_sentence_and_verify_names_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        push(cache)
        manifest = load_manifest(cache)
        first, second = (f"/bucket/vqa/{object_name(one)}" for one in manifest.images[:2])
        store.pipe_file(first, bytes(manifest.images[0].bytes), chunksize=0)
        store.rm_file(second)
        there = FeatureCache(open_stage(URL, tmp_path))
        for row, what in ((0, "are not those that were written"), (3, "has no such object")):
            with pytest.raises(ObjectError, match=what):
                read(there, [row])
        assert np.array_equal(read(there, [7]), PICTURES[[7]])
        found = verify(there.directory, there.manifest)
        assert {damage.file for _, damage in found if damage} == {
            "images/00000.h5",
            "images/00001.h5",
        }


def test_another_process_opens_it_by_itself_and_a_strangers_folder_asks_nobody(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        push(cache)
        there = FeatureCache(open_stage(URL, tmp_path))
        sent = pickle.dumps(there)
        monkeypatch.setattr(arrivals, "_COMING", {})  # as in a process that begins
        asked = store.calls
        with pytest.raises(CacheError, match="is missing, the manifest needs"):
            FeatureCache(there.directory)
        assert store.calls == asked
        assert np.array_equal(read(pickle.loads(sent), [5]), PICTURES[[5]])


def test_a_stage_is_a_folder_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").write_text("mine")
    with memory(monkeypatch):
        push(cache)
        for folder in (tmp_path, cache):
            with pytest.raises(CacheError, match="Give --stage"):
                open_stage(URL, folder)
