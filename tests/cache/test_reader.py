"""Rows come back as they were written, from any shard in any order; a failing disk is told."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import CacheDamagedError, CacheError, CacheWriter, FeatureCache
from frozen_vqa.cache.disk.integrity import load_manifest, open_shard
from frozen_vqa.cache.format.digests import row_digests
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.quantise import dequantise
from frozen_vqa.cache.verify import Damage, check_file
from tests.support.caches import (
    PATCHES,
    TEXT_DIM,
    VISION_DIM,
    Made,
    Row,
    add_images,
    make_cache,
    make_spec,
    new_images,
)
from tests.support.manifests import save
from tests.support.repository import ROOT
from tests.support.several_shards import PATHS, PICTURES, ROWS, STATES, TEXTS, flip_row, read, write


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cache")
    write(place)
    return place


@settings(deadline=None)
@given(requests=st.lists(st.lists(st.integers(0, ROWS - 1), max_size=12), max_size=3))
def test_pictures_come_back_in_any_order_across_shards(
    directory: Path, requests: list[list[int]]
) -> None:
    cache = FeatureCache(directory)
    for rows in requests:
        np.testing.assert_array_equal(read(cache, rows), PICTURES[np.array(rows, dtype=int)])


def test_pictures_may_be_read_into_wider_numbers(directory: Path) -> None:
    found = read(FeatureCache(directory), [4, 0], dtype=np.float32)

    np.testing.assert_array_equal(found, PICTURES[[4, 0]].astype(np.float32))


def test_questions_come_back_as_they_were(directory: Path) -> None:
    questions = FeatureCache(directory).questions

    assert list(questions.texts) == TEXTS
    assert questions.lengths().tolist() == [3, 2, 4, 1]
    for row, path in enumerate(PATHS):
        np.testing.assert_array_equal(questions.states(row), STATES[path])


def test_ids_and_splits_come_back_as_they_were(directory: Path) -> None:
    cache = FeatureCache(directory)

    assert cache.image_ids() == [f"p{i}" for i in range(ROWS)]
    table = cache.split("val")
    assert table.question_ids == [5, "5"]
    assert table.image_rows.tolist() == [7, 0]
    assert table.answers == [("a", "b"), ()]
    assert [record.file for record in cache.manifest.files] == [
        *(f"images/0000{i}.h5" for i in range(3)),
        *(f"questions/0000{i}.h5" for i in range(3)),
        "splits/val.h5",
        "splits/test.h5",
    ]


@pytest.mark.parametrize("row", [-1, -ROWS, ROWS, 10**9])
def test_a_row_outside_is_a_bug_and_no_other_row(row: int, directory: Path) -> None:
    with pytest.raises(IndexError, match=r"image row outside 0\.\.7"):
        read(FeatureCache(directory), [row])


def test_a_cache_without_anything_is_readable(tmp_path: Path) -> None:
    save(tmp_path, Manifest(spec=make_spec()))
    cache = FeatureCache(tmp_path)

    assert cache.questions.hidden_states.shape == (0, TEXT_DIM)
    assert cache.questions.lengths().tolist() == []
    assert (list(cache.questions.texts), cache.image_ids(), cache.manifest.files) == ([], [], ())
    with pytest.raises(IndexError, match="image row outside"):
        read(cache, [0])


def test_a_missing_split_names_those_that_are_there(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no split 'vall' .*\(splits: val, test\).*--split vall"):
        FeatureCache(directory).split("vall")
    save(tmp_path, Manifest(spec=make_spec()))
    with pytest.raises(CacheError, match=r"\(splits: none\)"):
        FeatureCache(tmp_path).split("val")


def test_a_row_is_not_checked_twice(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(
        "frozen_vqa.cache.reader.row_digest",
        lambda row: checked.append(1) or row_digests(row[None])[0],
    )
    cache = FeatureCache(directory)
    read(cache, [1, 6])
    read(cache, [6, 2, 1])

    assert len(checked) == 3


@pytest.fixture
def int8(tmp_path: Path) -> Made:
    """A cache of five pictures as integers and scales, in two shards."""
    rows = [Row(i, i) for i in range(5)]
    return make_cache(tmp_path / "int8", {"val": rows}, spec=make_spec(dtype="int8"))


def test_integers_come_back_with_their_scales(int8: Made) -> None:
    cache, rows = FeatureCache(int8.directory), np.array([4, 0, 3, 1, 2, 4])
    integers = np.empty((6, PATCHES, VISION_DIM), np.int8)
    scales = np.empty((6, PATCHES), np.float16)
    for _ in range(2):  # checked rows take another way
        cache.read_images(rows, integers, scales)
        np.testing.assert_array_equal(dequantise(integers, scales), int8.patch_embeddings[rows])
    for i, states in enumerate(int8.states):
        assert states.dtype == np.float16
        np.testing.assert_array_equal(cache.questions.states(i), states)

    with pytest.raises(ValueError, match="need their scales"):
        cache.read_images(rows, integers)


@pytest.mark.parametrize(
    ("dataset", "told", "rows"),
    [
        ("patch_embeddings", "row 1 differs from its digest", [1]),
        ("patch_scales", "its bytes outside of the features are not those that were written", []),
        ("cls", None, [1]),
    ],
)
def test_a_flipped_bit_of_an_int8_shard_is_found(
    dataset: str, told: str | None, rows: list[int], int8: Made
) -> None:
    flip_row(int8.directory / "images/00000.h5", dataset, 1)
    manifest = load_manifest(int8.directory)

    found = check_file(int8.directory, manifest, manifest.images[0])
    assert found is not None
    assert list(found.rows) == rows
    assert list(found.names) == [f"picture {row}" for row in rows]
    cache = FeatureCache(int8.directory)
    out = np.empty((2, PATCHES, VISION_DIM), np.int8), np.empty((2, PATCHES), np.float16)
    if told is None:  # no reader asks for these
        cache.read_images(np.array([0, 1]), *out)
    else:
        with pytest.raises(CacheDamagedError, match=rf"00000\.h5: {told}"):
            cache.read_images(np.array([0, 1]), *out)


def test_a_disk_that_cannot_be_read_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    manifest = load_manifest(directory)
    for name in (
        "frozen_vqa.cache.disk.files.open_regular",
        "frozen_vqa.cache.verify.open_regular",
    ):
        monkeypatch.setattr(name, fail)

    record = manifest.files[0]
    expected = Damage(record.file, "cannot be read (Input/output error)")
    assert check_file(directory, manifest, record) == expected
    with pytest.raises(CacheDamagedError, match=r"00000.h5: cannot be read \(Input/output error"):
        open_shard(directory, "images", manifest.images[0])


@pytest.mark.parametrize(("hard", "expected"), [(200, "read 60"), (40, "may not open more files")])
def test_more_shards_than_open_files(hard: int, expected: str, tmp_path: Path) -> None:
    """The usual limit of open files can be raised by the process itself, up to a second one."""
    with CacheWriter(tmp_path, make_spec()) as writer:
        for number in range(60):
            add_images(writer, new_images([str(number)], PICTURES[:1], PICTURES[:1, 0].copy()))
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from frozen_vqa.cache import CacheError, FeatureCache\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (30, {hard}))\n"
        "cache = FeatureCache(Path(sys.argv[1]))\n"
        f"out = np.empty((60, {PATCHES}, {VISION_DIM}), np.float16)\n"
        "try: cache.read_images(np.arange(60), out); print('read', len(cache._shards))\n"
        "except CacheError as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert expected in ran.stdout


def test_a_folder_that_may_not_be_entered_is_one_sentence(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.stat

    def refused(self: Path, **how: bool) -> os.stat_result:
        if self.suffix == ".h5":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, **how)

    def closed(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(CacheDamagedError, match=r"00000.h5: cannot be read \(Permission denied"):
        FeatureCache(directory)
