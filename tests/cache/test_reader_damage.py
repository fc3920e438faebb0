"""A reader refuses damaged, cut, swapped and foreign files, and never gives rows that are wrong."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from frozen_vqa.cache import CacheDamagedError, CacheWriter, FeatureCache
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.format.digests import digest, row_digests
from frozen_vqa.cache.format.hdf5 import (
    Extent,
    Hdf5Bytes,
    Hdf5File,
    build_hdf5,
    column_datasets,
    text_datasets,
)
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.records.files import ShardRecord
from frozen_vqa.cache.format.shards import FEATURES, NewQuestions
from frozen_vqa.cache.verify import check_file
from tests.support.caches import add_images, add_questions, make_spec, new_images
from tests.support.manifests import save
from tests.support.several_shards import PICTURES, ROWS, SHARDS, STATES, flip_row, read, write


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A cache that a test may damage."""
    write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("row", range(ROWS))
def test_a_flipped_bit_is_found_when_its_row_is_first_touched(row: int, mine: Path) -> None:
    shard = int(np.searchsorted(np.cumsum(SHARDS), row, side="right"))
    local = row - sum(SHARDS[:shard])
    path = mine / "images" / f"0000{shard}.h5"
    size = PICTURES[0].nbytes
    with h5py.File(path) as file:
        offset = file["patch_embeddings"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[offset + local * size + row * 7 % size] ^= 1 << row
    path.write_bytes(data)

    cache = FeatureCache(mine)
    others = [other for other in range(ROWS) if other != row]
    np.testing.assert_array_equal(read(cache, others), PICTURES[others])
    for _ in range(2):  # not only the first time
        with pytest.raises(CacheDamagedError, match=rf"0000{shard}\.h5: row {local} differs from"):
            read(cache, [*others, row])


@pytest.mark.parametrize("kind", ["images", "questions"])
def test_a_shard_in_the_place_of_another_is_found(kind: str, mine: Path) -> None:
    """Whole and sound, but not the one that was written there: sizes and row digests fit."""
    folder = mine / kind
    one, other = PICTURES[:3], PICTURES[3:6]
    with CacheWriter(mine / "two", make_spec()) as writer:
        for rows in (one, other):
            add_images(writer, new_images(["p0", "p1", "p2"], rows, rows[:, 0].copy()))
        for states in (STATES[:2], STATES[2:4]):
            first = 0 if states is STATES[:2] else 2
            paths = [[first, first + 1]]
            add_questions(
                writer, NewQuestions(["q?"], paths, np.array([-1, first]), np.arange(2), states)
            )
    folder = mine / "two" / kind
    first_shard, second = folder / "00000.h5", folder / "00001.h5"
    assert first_shard.stat().st_size == second.stat().st_size
    second.write_bytes(first_shard.read_bytes())

    cache = FeatureCache(mine / "two")
    with pytest.raises(CacheDamagedError, match=rf"{kind}/00001\.h5: .*digest differs"):
        (read(cache, [0, 5]), cache.questions)


@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("images/00001.h5", lambda cache: read(cache, [0, 3])),
        ("images/00001.h5", lambda cache: cache.image_ids()),
        ("questions/00001.h5", lambda cache: cache.questions),
        ("splits/val.h5", lambda cache: cache.split("val")),
    ],
)
def test_a_file_that_is_cut_or_gone_is_refused(
    file: str, use: Callable[[FeatureCache], object], mine: Path
) -> None:
    path = mine / file
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(CacheDamagedError, match=f"{file}: .*(bytes|truncated)"):
        use(FeatureCache(mine))
    path.unlink()
    with pytest.raises(CacheDamagedError, match=f"{file}: "):
        use(FeatureCache(mine))


@pytest.mark.parametrize("file", ["questions/00000.h5", "splits/val.h5"])
def test_a_flipped_bit_outside_the_pictures_is_found(file: str, mine: Path) -> None:
    path = mine / file
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    cache = FeatureCache(mine)

    with pytest.raises(
        CacheDamagedError, match=f"{file}: .*digest differs.*`frozen-vqa verify-cache"
    ):
        (cache.questions, cache.split("val"))


def put(directory: Path, name: str, datasets: dict[str, np.ndarray]) -> None:
    """Replace a file of the cache by another with a digest that goes with it."""
    replace_file(directory, name, build_hdf5(datasets))


def replace_file(directory: Path, name: str, new: Hdf5Bytes) -> None:
    """Put other bytes in the place of a file, and all that the manifest has to say of them."""
    data = b"".join(new.pieces)
    (directory / name).write_bytes(data)
    manifest = load_manifest(directory)

    def renewed(record: Any) -> Any:
        if record.file != name:
            return record
        changes: dict[str, Any] = {"bytes": len(data), "xxh3": digest(data)}
        changes["datasets"] = new.datasets
        if isinstance(record, ShardRecord):
            kind = name.split("/")[0]
            file = Hdf5File(directory / name, data, new.datasets)
            changes["structure"] = file.structure_digest(FEATURES[kind])
        return replace(record, **changes)

    save(
        directory,
        Manifest(
            spec=manifest.spec,
            images=tuple(renewed(record) for record in manifest.images),
            questions=tuple(renewed(record) for record in manifest.questions),
            splits={key: renewed(record) for key, record in manifest.splits.items()},
        ),
    )


def datasets_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("images/00000.h5", {"patch_embeddings": PICTURES[:2]}, r"needs float16 \(3, 6, 5\)"),
        ("images/00000.h5", {"patch_embeddings": PICTURES[:3].astype("f4")}, "is float32"),
        ("images/00000.h5", {"patch_embeddings": PICTURES[1:4]}, "row 0 differs from its digest"),
        ("images/00000.h5", {"patch_embeddings_xxh3": row_digests(PICTURES[:2])}, r"uint64 \(2,\)"),
        ("questions/00000.h5", {"hidden_states": STATES[:3]}, r"needs float16 \(4, 7\)"),
        ("questions/00000.h5", {"hidden_states": STATES[1:5]}, "differ from their digests"),
        ("questions/00000.h5", {"hidden_states_xxh3": row_digests(STATES)}, r"uint64 \(6,\)"),
        ("questions/00000.h5", text_datasets("question", ["one"]), "does not hold 2 questions"),
        (
            "questions/00000.h5",
            column_datasets("path_rows", np.array([0, 1, 2, 0, 6])),
            "paths do not fit the rows",
        ),
        (
            "questions/00000.h5",
            column_datasets("path_rows", np.array([0, 1, 2, 0, -1])),
            "paths do not fit the rows",
        ),
        (
            "questions/00000.h5",
            column_datasets("path_rows", np.array([0, 1, 1, 0, 3])),
            "paths do not fit the rows",
        ),
        (
            "questions/00000.h5",
            column_datasets("path_offsets", np.array([0, 7, 5])),
            "offsets do not fit",
        ),
        ("splits/val.h5", column_datasets("image_row", np.array([0, ROWS])), "points outside"),
        ("splits/val.h5", column_datasets("image_row", np.array([-1, 0])), "points outside"),
        ("splits/val.h5", column_datasets("question_row", np.array([4, 0])), "points outside"),
        (
            "splits/val.h5",
            column_datasets("more_images_begin", np.array([0, 1, 1]))
            | column_datasets("more_image_row", np.array([ROWS])),
            "points outside",
        ),
    ],
)
def test_a_cache_from_elsewhere_is_not_believed(
    file: str, changes: dict[str, np.ndarray], message: str, mine: Path
) -> None:
    whole = datasets_of(mine / file)
    put(mine, file, whole)
    everything = (lambda c: read(c, [0]), lambda c: c.questions, lambda c: c.split("val"))
    for use in everything:
        use(FeatureCache(mine))

    put(mine, file, {**whole, **changes})
    cache = FeatureCache(mine)
    with pytest.raises(CacheDamagedError, match=message):
        [use(cache) for use in everything]


def test_a_split_whose_manifest_counts_other_questions_is_refused(mine: Path) -> None:
    manifest = load_manifest(mine)
    record = manifest.splits["val"]
    record = replace(record, rows=record.rows + 1)
    save(mine, replace(manifest, splits={**manifest.splits, "val": record}))

    with pytest.raises(CacheDamagedError, match=r"val\.h5: it holds \d+ questions, the manifest"):
        FeatureCache(mine).split("val")


def test_the_old_bytes_under_a_new_size_are_refused_at_once(mine: Path) -> None:
    path = mine / "images" / "00001.h5"
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(CacheDamagedError, match=r"images/00001\.h5: has .* bytes, the manifest"):
        FeatureCache(mine)


def test_a_pipe_in_place_of_a_shard_does_not_block(mine: Path) -> None:
    path = mine / "images" / "00001.h5"
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(CacheDamagedError, match=r"images/00001\.h5: is no regular file"):
        FeatureCache(mine)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_all_rows_of_a_large_first_read_are_checked(count: int, mine: Path) -> None:
    """Several rows are checked by two threads: each half is."""
    for row in range(count):
        shard = int(np.searchsorted(np.cumsum(SHARDS), row, side="right"))
        local = row - sum(SHARDS[:shard])
        flip_row(mine / "images" / f"0000{shard}.h5", "patch_embeddings", local)
        with pytest.raises(CacheDamagedError, match=f"0000{shard}.h5: row {local} differs"):
            read(FeatureCache(mine), [r for r in range(ROWS) if r >= row])
        with pytest.raises(CacheDamagedError, match=f"0000{shard}.h5: row {local} differs"):
            read(FeatureCache(mine), [*(r for r in range(ROWS) if r != row), row])
        flip_row(mine / "images" / f"0000{shard}.h5", "patch_embeddings", local)
    np.testing.assert_array_equal(read(FeatureCache(mine), list(range(ROWS))), PICTURES)


def test_we_read_a_shard_that_plain_h5py_wrote(mine: Path) -> None:
    """Unaligned, with other things in it: contiguous and unfiltered is what matters."""
    path = mine / "images" / "00000.h5"
    new = (PICTURES[:3] * 2).astype(np.float16)
    ids = text_datasets("image_id", ["x", "y", "z"])
    path.unlink()
    with h5py.File(path, "w") as file:
        file.attrs["made by"] = "somebody"
        for name, array in ids.items():
            file[name] = array
        file["notes"] = np.arange(3, dtype=np.int8)
        file["patch_embeddings"] = new
        file["patch_embeddings_xxh3"] = row_digests(new)
    with h5py.File(path) as file:
        datasets = {n: str(Extent(d.id.get_offset(), d.shape, d.dtype)) for n, d in file.items()}
    replace_file(mine, "images/00000.h5", Hdf5Bytes([path.read_bytes()], datasets))

    cache = FeatureCache(mine)
    np.testing.assert_array_equal(read(cache, [2, 3, 0]), np.stack([new[2], PICTURES[3], new[0]]))
    assert cache.image_ids() == ["x", "y", "z", *(f"p{i}" for i in range(3, ROWS))]


def test_a_shard_without_one_of_its_datasets_is_damage(mine: Path) -> None:
    whole = datasets_of(mine / "images" / "00000.h5")
    put(mine, "images/00000.h5", {name: a for name, a in whole.items() if name != "cls"})
    (mine / "images" / "00000.h5").write_bytes(
        (mine / "images" / "00000.h5").read_bytes()[:-1] + b"?"
    )
    manifest = load_manifest(mine)
    damage = check_file(mine, manifest, manifest.images[0])

    assert damage is not None
    assert damage.reason == "its bytes outside of the features are not those that were written"
