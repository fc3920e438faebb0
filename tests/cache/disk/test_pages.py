"""Pages on the disk: damage, kills while shards fill them, and shards that are replaced in them."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheDamagedError, CacheWriter, FeatureCache, load_manifest
from frozen_vqa.cache.disk.folders import MARK
from frozen_vqa.cache.format.shards import Shard, image_shard
from frozen_vqa.cache.verify import check_copies, draw_files, verify
from frozen_vqa.cache.writer import own_cache, remove_cache
from tests.support.caches import PATCHES, VISION_DIM, add_images, make_spec, new_images
from tests.support.frozen import files
from tests.support.paged import small_pages
from tests.support.power import left_behind, recorded

SHARDS, SIZE = 5, 2


def numbers(index: int, value: float) -> Shard:
    patches = np.full((1, PATCHES, VISION_DIM), value, np.float16)
    return image_shard(make_spec(), new_images([f"p{index}"], patches, patches[:, 0].copy()))


def grow(directory: Path, shards: int = SHARDS) -> None:
    """Add shards that fill two pages, then change one in the first page."""
    with CacheWriter(directory, make_spec()) as writer:
        for index in range(len(writer.manifest.images), shards):
            patches = np.full((1, PATCHES, VISION_DIM), index, np.float16)
            add_images(writer, new_images([f"p{index}"], patches, patches[:, 0].copy()))
        writer.replace_shard(1, numbers(1, 0.5))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_pages(monkeypatch, SIZE)
    grow(tmp_path / "cache")
    return tmp_path / "cache"


def values(directory: Path) -> list[float]:
    cache = FeatureCache(directory)
    out = np.empty((cache.manifest.image_rows, PATCHES, VISION_DIM), np.float16)
    cache.read_images(np.arange(len(out)), out)
    return out[:, 0, 0].tolist()


def test_full_pages_are_files_and_a_changed_one_has_another_name(cache: Path) -> None:
    names = {name for name in files(cache) if name.startswith("manifest/")}
    stems = ("images-00000~2", "images-00001")
    assert names == {f"manifest/{s}{end}" for s in stems for end in (".json", ".copy.json")}
    manifest = load_manifest(cache)
    assert [record.file for record in manifest.images] == [
        *("images/00000.h5", "images/00001~2.h5"),
        *(f"images/{i:05d}.h5" for i in (2, 3, 4)),
    ]
    assert len(manifest.shards("images").last) == 1
    assert values(cache) == [0, 0.5, 2, 3, 4]
    assert own_cache(cache).names() == manifest.file_names | {"cache.json", "cache.copy.json"}
    remove_cache(cache)
    assert not files(cache)


def test_a_page_that_is_full_is_never_written_again(cache: Path) -> None:
    before = {path: path.stat().st_ino for path in (cache / "manifest").iterdir()}
    grow(cache, SHARDS + SIZE + 1)
    after = {path: path.stat().st_ino for path in (cache / "manifest").iterdir()}
    assert before.items() < after.items()


@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.slow), pytest.param(9, id="some")]
)
def test_a_kill_or_a_loss_of_power_ends_in_the_same_bytes(
    every: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, root = files(cache), tmp_path / "recorded"
    with recorded(root) as disk:
        grow(root / "cache")
    assert len(disk.moments) > 60
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    for number, moment in enumerate(disk.moments[::every]):
        for keep in ("safe", "some") if every == 1 else ("some",):
            place = tmp_path / f"{keep} {number}"
            left_behind(moment, place, keep=keep, rng=random.Random(number))
            directory = place / "cache"
            if (directory / "cache.json").exists():
                manifest = load_manifest(directory)
                assert [damage for _, damage in verify(directory, manifest) if damage] == []
            grow(directory)
            assert files(directory) == whole, (keep, number)


def spoil(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if how == "flipped" else data + b" ")


@pytest.mark.parametrize("how", ["gone", "flipped", "longer"])
def test_one_of_two_copies_of_a_page_suffices(how: str, cache: Path) -> None:
    whole = files(cache)
    for name in [name for name in whole if name.startswith("manifest/")]:
        spoil(cache / name, how)
        assert values(cache) == [0, 0.5, 2, 3, 4]
        (found,) = check_copies(cache, load_manifest(cache))
        assert found.file == name
        grow(cache)
        assert files(cache) == whole


def test_a_page_whose_copy_is_lost_as_well_is_one_sentence(cache: Path) -> None:
    for end in (".json", ".copy.json"):
        spoil(cache / f"manifest/images-00001{end}", "flipped")
    assert load_manifest(cache).images[0].rows == 1  # of another page
    match = r"images-00001.json: it is missing or not what .* images-00001.copy.json\. They list 2 "
    with pytest.raises(CacheDamagedError, match=match):
        FeatureCache(cache)
    with pytest.raises(CacheDamagedError, match=match):
        grow(cache)


def test_few_files_drawn_are_others_each_time(cache: Path) -> None:
    manifest = load_manifest(cache)
    every = {record.file for record in manifest.files}
    drawn = [draw_files(manifest, 2) for _ in range(40)]
    assert {record.file for two in drawn for record in two} == every
    assert all(len({record.file for record in two}) == 2 for two in drawn)
    assert {record.file for record in draw_files(manifest, 10**6)} == every


def test_the_names_of_many_shards_are_not_written_with_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the work of n shards grows with the square of n."""
    small_pages(monkeypatch, SIZE)
    marks = set()
    with CacheWriter(tmp_path, make_spec()) as writer:
        for index in range(24):
            patches = np.full((1, PATCHES, VISION_DIM), index, np.float16)
            add_images(writer, new_images([f"p{index}"], patches, patches[:, 0].copy()))
            marks.add((tmp_path / MARK).read_bytes().count(b"images/"))
    assert len(marks) < 18
    assert own_cache(tmp_path).names() >= {f"images/{i:05d}.h5" for i in range(24)}
    assert "images/00024.h5" not in own_cache(tmp_path).names()
