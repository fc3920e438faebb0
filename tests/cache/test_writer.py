"""The writer adds whole shards, extends what is there, and keeps the list of what failed."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash

from frozen_vqa.cache import CacheWriter, Failure, FeatureCache
from frozen_vqa.cache.disk.integrity import load_manifest, read_prefixes
from frozen_vqa.cache.format.shards import NewQuestions
from tests.support.caches import VISION_DIM, add_images, add_questions, make_spec, new_images
from tests.support.writing import (
    CLS,
    EMPTY,
    IDS,
    NOTHING_NEW,
    PICTURES,
    RNG,
    SECOND,
    SPLIT,
    STATES,
    names,
    tree,
    write,
)


def digests(rows: np.ndarray) -> list[int]:
    return [xxhash.xxh3_64_intdigest(row.tobytes()) for row in rows]


def test_plain_h5py_reads_the_shards(tmp_path: Path) -> None:
    write(tmp_path)

    with h5py.File(tmp_path / "images" / "00000.h5") as file:
        np.testing.assert_array_equal(file["patch_embeddings"][()], PICTURES[:3])
        np.testing.assert_array_equal(file["cls"][()], CLS[:3])
        assert file["patch_embeddings_xxh3"][()].tolist() == digests(PICTURES[:3])
        assert file["cls_xxh3"][()].tolist() == digests(CLS[:3])
        assert file["image_id_utf8"][()].tobytes() == "3einsü".encode()
        assert file["image_id_offsets"][()].tolist() == [0, 1, 5, 7]
    with h5py.File(tmp_path / "questions" / "00000.h5") as file:
        np.testing.assert_array_equal(file["hidden_states"][()], STATES[:3])
        assert file["hidden_states_xxh3"][()].tolist() == digests(STATES[:3])
        assert file["prefix_parent"][()].tolist() == [-1, 0, 0]
        assert file["prefix_token"][()].tolist() == [9, 8, 7]
        assert file["path_rows"][()].tolist() == [0, 1, 0, 2]
        assert file["path_offsets"][()].tolist() == [0, 2, 4]
        assert file["question_utf8"][()].tobytes() == b"a ba c"


@pytest.mark.parametrize("rows", [1, 40])
def test_hot_datasets_are_contiguous_aligned_and_unfiltered(rows: int, tmp_path: Path) -> None:
    spec = make_spec(grid=(8, 9), text_dim=3000)
    features = RNG.standard_normal((rows, 72, VISION_DIM)).astype(np.float16)
    states = RNG.standard_normal((rows, 3000)).astype(np.float16)
    paths = [[i] for i in range(rows)]
    names = [f"i{i}" for i in range(rows)]
    with CacheWriter(tmp_path, spec) as writer:
        if rows == 40:  # a page and more; less than that is not worth a page of its own
            add_images(writer, new_images(names, features, features[:, 0].copy()))
        add_questions(
            writer, NewQuestions(names, paths, np.full(rows, -1), np.arange(rows), states)
        )

    found = {}
    for path in tmp_path.glob("*/*.h5"):
        with h5py.File(path) as file:
            for name in {"patch_embeddings", "hidden_states"} & set(file):
                dataset, plist = file[name], file[name].id.get_create_plist()
                found[name] = dataset.id.get_offset() % 4096
                assert plist.get_layout() == h5py.h5d.CONTIGUOUS
                assert plist.get_nfilters() == plist.get_external_count() == 0
    expected = {"hidden_states": 0} | ({"patch_embeddings": 0} if rows == 40 else {})
    assert found == expected


def test_the_manifest_records_every_file(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = load_manifest(tmp_path)

    assert [(record.file, record.rows) for record in manifest.files] == [
        ("images/00000.h5", 3),
        ("images/00001.h5", 2),
        ("questions/00000.h5", 2),
        ("splits/val.h5", 2),
    ]
    shards = [*manifest.images, *manifest.questions]
    assert [record.prefixes for record in shards] == [0, 0, 3]
    assert len({record.structure for record in shards} | {r.names for r in shards}) == 6
    for record in manifest.files:
        data = (tmp_path / record.file).read_bytes()
        assert (record.bytes, record.xxh3) == (len(data), xxhash.xxh3_128_hexdigest(data))
    largest = [
        max(np.abs(PICTURES[r]).max(), np.abs(CLS[r]).max()) for r in (slice(3), slice(3, 5))
    ]
    assert [record.largest for record in shards] == [*largest, np.abs(STATES[:3]).max()]
    split = manifest.splits["val"]
    assert (split.left_out, split.tokens, split.origin) == (2, 9, {"dataset": "jsonl:DATA"})
    assert (tmp_path / "cache.copy.json").read_bytes() == (tmp_path / "cache.json").read_bytes()


def test_what_is_stored_is_known_by_row(tmp_path: Path) -> None:
    write(tmp_path)
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_questions(writer, SECOND)
        add_questions(writer, NOTHING_NEW)

    assert names(tmp_path, "images") == IDS
    assert names(tmp_path, "questions") == ["a b", "a c", "a b d", "a"]
    parents, tokens = read_prefixes(tmp_path, load_manifest(tmp_path))
    assert parents.tolist() == [-1, 0, 0, 1]
    assert tokens.tolist() == [9, 8, 7, 6]
    assert read_prefixes(tmp_path, load_manifest(tmp_path), 1)[1].tolist() == [9, 8, 7]


def test_an_empty_cache_holds_nothing(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()):
        pass
    manifest = load_manifest(tmp_path)
    assert names(tmp_path, "images") == names(tmp_path, "questions") == []
    assert [column.tolist() for column in read_prefixes(tmp_path, manifest)] == [[], []]
    assert set(tree(tmp_path)) == EMPTY


def test_a_second_writer_extends_and_touches_no_shard(tmp_path: Path) -> None:
    write(tmp_path)
    before = tree(tmp_path)
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_images(writer, new_images(["new"], PICTURES[:1], CLS[:1]))
        add_questions(writer, SECOND)
        add_questions(writer, NOTHING_NEW)
        writer.set_split("train", replace(SPLIT, question_rows=np.array([3, 2])))

    after = tree(tmp_path)
    assert set(after) - set(before) == {
        "images/00002.h5", "questions/00001.h5", "questions/00002.h5", "splits/train.h5"
    }  # fmt: skip
    assert {name for name in before if before[name] != after[name]} == EMPTY
    cache = FeatureCache(tmp_path)
    assert cache.image_ids() == [*IDS, "new"]
    np.testing.assert_array_equal(cache.questions.states(2), STATES[[0, 1, 3]])
    np.testing.assert_array_equal(cache.questions.states(3), STATES[:1])
    np.testing.assert_array_equal(cache.questions.states(1), STATES[[0, 2]])
    assert list(cache.manifest.splits) == ["val", "train"]
    assert cache.split("train").question_rows.tolist() == [3, 2]
    assert cache.manifest.splits["train"].left_out == 0


def test_a_split_is_replaced_in_its_place(tmp_path: Path) -> None:
    write(tmp_path)
    with CacheWriter(tmp_path, make_spec()) as writer:
        writer.set_split("train", SPLIT, left_out=0)
        writer.set_split("val", replace(SPLIT, answers=[("no",), ("no",)]), left_out=1)

    cache = FeatureCache(tmp_path)
    assert cache.split("val").answers == [("no",), ("no",)]
    assert [(n, r.left_out) for n, r in cache.manifest.splits.items()] == [("val", 1), ("train", 0)]


def test_a_cache_without_anything_may_become_another(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()):
        pass
    with CacheWriter(tmp_path, make_spec(dtype="float32")):
        pass
    assert load_manifest(tmp_path).spec.dtype == "float32"


def failures(*names: str) -> list[Failure]:
    return [Failure(name, f"{name}.jpg", "truncated") for name in names]


def test_what_says_the_same_again_is_brought_back(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_images(writer, new_images(IDS, PICTURES, CLS), failures=failures("b"))
    before = tree(tmp_path)
    (tmp_path / "cache.copy.json").unlink()
    (tmp_path / "failures.jsonl").write_bytes(b"")
    with CacheWriter(tmp_path, make_spec()):
        pass
    assert tree(tmp_path) == before


def test_failures_keep_their_place_and_leave_when_mended(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_images(writer, new_images(["a"], PICTURES[:1], CLS[:1]), failures=failures("b", "c"))
        add_images(writer, new_images([], np.empty(0), np.empty(0)), failures=failures("d"))
        assert load_manifest(tmp_path).failures == tuple(failures("b", "c", "d"))
        before = tree(tmp_path)

        add_images(writer, new_images([], np.empty(0), np.empty(0)), failures=failures("b"))
        assert tree(tmp_path) == before

        missing = Failure("c", "c.jpg", "the file is missing")
        add_images(writer, new_images(["b"], PICTURES[1:2], CLS[1:2]), failures=[missing])
    assert load_manifest(tmp_path).failures == (missing, *failures("d"))
    assert load_manifest(tmp_path).image_rows == 2
