"""A pulled cache, or a part of one, is a cache: checked, resumed, and never wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheError, CacheWriter, FeatureCache, load_manifest
from frozen_vqa.cache.convert import converted_spec
from frozen_vqa.cache.errors import CacheMismatchError, StoreError
from frozen_vqa.cache.memory import ResidentImages
from frozen_vqa.cache.stores.copies import object_name
from frozen_vqa.cache.verify import check_copies, verify
from frozen_vqa.pipeline.runs.data import fingerprint_cache
from tests.support import stores
from tests.support.caches import Row, make_cache
from tests.support.several_shards import read
from tests.support.stores import Flaky, Killed, content, memory, pull, push

empty, cache = stores.empty, stores.cache  # fixtures; the first is in force in every test


@pytest.mark.parametrize("asked", ["a", "b", "c", "ab"])
def test_a_part_gives_the_rows_of_its_splits_or_an_error(
    asked: str, parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(parted)
        pull(tmp_path / "part", *asked)
        part, whole = FeatureCache(tmp_path / "part"), FeatureCache(parted)
        assert set(part.manifest.splits) == set(asked)
        shown = {row for name in asked for row in whole.split(name).image_rows.tolist()}
        assert {record.file for record in part.manifest.images} - {
            f"images/0000{row // 4}.h5" for row in shown
        } == set(part.manifest.absent)
        resident = ResidentImages(part)
        for row in range(8):
            if row // 4 in {one // 4 for one in shown}:
                assert np.array_equal(read(part, [row]), read(whole, [row]))
                assert np.array_equal(resident.rows[row], read(whole, [row])[0])
            else:
                with pytest.raises(CacheError, match="lacks images/0000"):
                    read(part, [row])
        for name in asked:
            # A score on a part is a score on the same split, with the same digests.
            assert part.manifest.splits[name] == whole.manifest.splits[name]
            assert part.split(name).image_rows.tolist() == whole.split(name).image_rows.tolist()
            ours, theirs = ({name: one.split(name)} for one in (part, whole))
            assert fingerprint_cache(part, ours) == fingerprint_cache(whole, theirs)
        found = [damage for _, damage in verify(part.directory, part.manifest) if damage]
        assert found + check_copies(part.directory, part.manifest) == []
        pull(tmp_path / "part")
        assert content(tmp_path / "part") == content(parted)


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of two shards; split a needs the first, b the second, and c both."""
    rows = {"a": [0, 2], "b": [7], "c": [5, 1]}
    splits = {name: [Row(row, row % 3, ("x",)) for row in some] for name, some in rows.items()}
    return make_cache(tmp_path_factory.mktemp("parted") / "cache", splits).directory


def test_nothing_is_added_to_a_part(
    parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(parted)
        pull(tmp_path / "part", "a")
    part = FeatureCache(tmp_path / "part")
    before = content(tmp_path / "part")
    with pytest.raises(CacheError, match=r"this is a part of a cache, without 1 of 2 shards"):
        CacheWriter(tmp_path / "part", part.spec).__enter__()
    with pytest.raises(CacheError, match=r"this is a part of a cache, without 1 of 2 shards"):
        converted_spec(part, "int8")
    assert content(tmp_path / "part") == before
    assert part.image_ids() == [*(f"picture {i}" for i in range(4)), "", "", "", ""]


def test_killed_at_any_call_a_rerun_brings_the_rest(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(cache)
    for dies in range(1, 20):
        folder = tmp_path / str(dies)
        try:
            with memory(monkeypatch, Flaky(dies=dies)) as first:
                pull(folder)
            break
        except Killed:
            assert not (folder / "cache.json").exists()
        came = list(folder.rglob("*.h5"))
        with memory(monkeypatch) as second:
            pull(folder)
        assert second.asked["cat_file"] == 1 + 8 - len(came)
        assert content(folder) == content(cache)
    assert first.asked["cat_file"] == dies - 1 == 9


def test_splits_that_are_here_stay(
    parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(parted)
        assert pull(tmp_path / "part", "a") == 3
        assert pull(tmp_path / "part", "b") == 2
        part = load_manifest(tmp_path / "part")
        assert (list(part.splits), part.absent) == (["a", "b"], ())
        with pytest.raises(CacheError, match=r"no split 'd' there \(splits: a, b, c\)"):
            pull(tmp_path / "part", "d")


def test_another_cache_and_somebodys_folder_are_left_alone(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_cache(tmp_path / "other", {"val": [Row(0, 0)]}).directory
    (tmp_path / "somebodys").mkdir()
    (tmp_path / "somebodys" / "notes").write_text("mine")
    before = content(other)
    with memory(monkeypatch):
        with pytest.raises(StoreError, match=r"there is no cache here \(cache\.json is missing\)"):
            pull(tmp_path / "new")
        push(cache)
        with pytest.raises(CacheMismatchError, match="it holds another cache than memory://"):
            pull(other)
        with pytest.raises(CacheError, match="may be somebody else's"):
            pull(tmp_path / "somebodys")
    assert content(other) == before
    assert not (tmp_path / "new").exists()


def test_a_hostile_store_gives_sentences(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that fits itself may name any file, size and digest."""
    manifest = load_manifest(cache)
    first = manifest.images[0]

    def forged(**changes: object) -> bytes:
        record = replace(first, **changes)  # type: ignore[arg-type]
        return manifest.with_shard("images", 0, record).to_json().encode()

    there, name = "/bucket/vqa/cache.json", f"/bucket/vqa/{object_name(first)}"
    cases = {
        "its bytes are not those that were written": {name: b"x" * first.bytes},
        r"bytes are not those that were written \(size": {name: b"x" * (1 << 20)},
        "the store has no such object": {name: None},
        "is no digest of its bytes": {there: forged(xxh3="../../x")},
        "and an object at a URL at most": {there: forged(bytes=1 << 40)},
        "is no file of a cache": {there: forged(file="../x.h5")},
        "so it is no manifest": {there: b" " * ((64 << 20) + 1)},
        "not a cache manifest": {there: b"{" * 5000},
        "has another digest": {there: manifest.to_json().encode().replace(b"made-up", b"mad-eup")},
        "has format 99": {there: manifest.to_json().encode().replace(b": 5,", b": 99,", 1)},
        "is absent that is no shard": {
            there: replace(manifest, absent=("images/9.h5",)).to_json().encode()
        },
    }
    for sentence, changes in cases.items():
        stores.forget()
        with memory(monkeypatch) as store:
            push(cache)
            for path, data in changes.items():
                store.rm_file(path)
                if data is not None:
                    store.pipe_file(path, data, chunksize=0)
            with pytest.raises(CacheError, match=sentence) as found:
                pull(tmp_path / "new")
            assert "\n" not in str(found.value)
            assert str(found.value).startswith(("memory://bucket/vqa", "images/"))
            assert not (tmp_path / "new" / "cache.json").exists()
            assert not list(tmp_path.rglob("x*"))
        assert store.calls < 60


def test_a_split_that_shows_absent_pictures_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        push(cache)
        manifest = replace(load_manifest(cache), absent=("images/00002.h5",))
        store.pipe_file("/bucket/vqa/cache.json", manifest.to_json().encode(), chunksize=0)
        pull(tmp_path / "new")
    with pytest.raises(CacheError, match="shows pictures that this part of a cache lacks"):
        FeatureCache(tmp_path / "new").split("val")
