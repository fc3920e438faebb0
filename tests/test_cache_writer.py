"""The writer adds whole shards, refuses what a cache must not hold, and extends what is there."""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash
from caches import PATCHES, TEXT_DIM, VISION_DIM, add_images, add_questions, make_spec, new_images

from cache import (
    CacheBusyError,
    CacheDamagedError,
    CacheError,
    CacheMismatchError,
    CacheWriter,
    Failure,
    FeatureCache,
    SplitTable,
)
from cache.manifest import ShardKind, load_manifest
from cache.opening import read_names, read_prefixes
from cache.quantise import dequantise, quantise
from cache.shards import NewQuestions, image_shard
from cache.verify import check_file

RNG = np.random.default_rng(0)
PICTURES = RNG.standard_normal((5, PATCHES, VISION_DIM)).astype(np.float16)
CLS = RNG.standard_normal((5, VISION_DIM)).astype(np.float16)
STATES = RNG.standard_normal((4, TEXT_DIM)).astype(np.float16)
EMPTY = {"cache.json", "cache.copy.json"}
IDS = ["3", "eins", "ü", "", "5"]

# "a b" and "a c", then the longer "a b d" and "a", which has no prefix of its own.
FIRST = NewQuestions(
    ["a b", "a c"], [[0, 1], [0, 2]], np.array([-1, 0, 0]), np.array([9, 8, 7]), STATES[:3]
)
SECOND = NewQuestions(["a b d"], [[0, 1, 3]], np.array([1]), np.array([6]), STATES[3:])
NOTHING_NEW = NewQuestions(
    ["a"], [[0]], np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, TEXT_DIM), np.float16)
)
SPLIT = SplitTable([1, 2], np.array([0, 4]), np.array([1, 0]), [("yes",), ()], ["", ""], ["", ""])


def tree(directory: Path) -> dict[str, bytes]:
    files = (
        path
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    )
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def write(directory: Path) -> None:
    with CacheWriter(directory, make_spec()) as writer:
        add_images(writer, new_images(IDS[:3], PICTURES[:3], CLS[:3]))
        add_images(writer, new_images(IDS[3:], PICTURES[3:], CLS[3:]))
        add_questions(writer, FIRST)
        origin = {"dataset": "jsonl:DATA"}
        writer.set_split("val", SPLIT, left_out=2, tokens=9, origin=origin)


def names(directory: Path, kind: ShardKind) -> list[str]:
    return read_names(directory, load_manifest(directory), kind)


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
        writer.set_split("train", replace(SPLIT, question_rows=np.array([3, 2])), left_out=0)

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


def test_a_split_is_replaced_in_its_place(tmp_path: Path) -> None:
    write(tmp_path)
    with CacheWriter(tmp_path, make_spec()) as writer:
        writer.set_split("train", SPLIT, left_out=0)
        writer.set_split("val", replace(SPLIT, answers=[("no",), ("no",)]), left_out=1)

    cache = FeatureCache(tmp_path)
    assert cache.split("val").answers == [("no",), ("no",)]
    assert [(n, r.left_out) for n, r in cache.manifest.splits.items()] == [("val", 1), ("train", 0)]


@pytest.mark.parametrize("name", ["a/b", "../val", "/val", "val/"])
def test_a_split_whose_name_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with (
        CacheWriter(tmp_path / "cache", make_spec()) as writer,
        pytest.raises(CacheError, match=f"split {name!r}: its name must do for a file"),
    ):
        writer.set_split(name, SPLIT, left_out=0)
    assert {Path(name).name for name in tree(tmp_path)} == EMPTY


def spoilt(array: np.ndarray, row: int, value: float) -> np.ndarray:
    array = array.copy()
    array[row].flat[-1] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("add", "what"),
    [
        (
            lambda w, v: add_images(w, new_images(IDS, spoilt(PICTURES, 1, v), CLS)),
            "made-up-vision, last layer: patch embeddings of image 'eins' (row 1)",
        ),
        (
            lambda w, v: add_images(w, new_images(IDS, PICTURES, spoilt(CLS, 2, v))),
            "made-up-vision, last layer: CLS vector of image 'ü' (row 2)",
        ),
        (
            lambda w, v: add_questions(
                w, replace(SECOND, hidden_states=spoilt(SECOND.hidden_states, 0, v))
            ),
            "made-up-text, layer -1: hidden state of token 2 of 'a b d' (row 0)",
        ),
    ],
)
def test_what_is_not_finite_is_refused_and_nothing_written(
    add: Callable[[CacheWriter, float], None], what: str, value: float, tmp_path: Path
) -> None:
    write(tmp_path)
    before = tree(tmp_path)
    with (
        CacheWriter(tmp_path, make_spec()) as writer,
        pytest.raises(
            CacheError, match=f"^{re.escape(what)}: not finite in float16; .*--dtype float32"
        ),
    ):
        add(writer, value)

    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("patches", "cls"),
    [
        (PICTURES.astype(np.float32), CLS),
        (PICTURES, CLS.astype(np.float32)),
        (PICTURES[:4], CLS),
        (PICTURES, CLS[:4]),
        (PICTURES.transpose(0, 2, 1), CLS),
    ],
)
def test_other_shapes_and_dtypes_are_bugs(
    patches: np.ndarray, cls: np.ndarray, tmp_path: Path
) -> None:
    with (
        CacheWriter(tmp_path, make_spec()) as writer,
        pytest.raises(ValueError, match=r"this cache needs float16 \(5, "),
    ):
        add_images(writer, new_images(IDS, patches, cls))
    assert set(tree(tmp_path)) == EMPTY


def test_the_largest_number_of_integers_is_that_with_its_scale() -> None:
    spec = make_spec(dtype="int8")
    integers, scales = quantise(50 * PICTURES)
    new = replace(new_images(IDS, integers, CLS), patch_scales=scales)

    largest = np.abs(dequantise(integers, scales)).max()
    assert image_shard(spec, new).record.largest == largest > np.abs(CLS).max()
    for value in (np.nan, np.inf):
        integers, scales = quantise(spoilt(PICTURES, 1, value))
        with pytest.raises(CacheError, match=r"patch embeddings of image 'eins' .*finite in int8"):
            image_shard(spec, replace(new, patch_embeddings=integers, patch_scales=scales))


@pytest.mark.parametrize(
    ("dtype", "scales", "message"),
    [
        ("int8", None, "scales belong to"),
        ("float16", np.ones(PICTURES.shape[:2], np.float16), "scales belong to"),
        ("int8", np.ones(PICTURES.shape[:2], np.float32), r"float32 \(5, 6\), this cache needs"),
        ("int8", np.ones((5, 1), np.float16), r"\(5, 1\), this cache needs float16 \(5, 6\)"),
    ],
)
def test_scales_come_with_integers_and_never_else(
    dtype: str, scales: np.ndarray | None, message: str
) -> None:
    spec = make_spec(dtype=dtype)
    new = new_images(IDS, PICTURES.astype(spec.image_dtype), CLS)
    with pytest.raises(ValueError, match=message):
        image_shard(spec, replace(new, patch_scales=scales))


def test_a_cache_made_otherwise_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    before = tree(tmp_path)

    with pytest.raises(CacheMismatchError, match="dtype is 'float16', asked for 'float32'"):
        CacheWriter(tmp_path, make_spec(dtype="float32")).__enter__()
    write_again = CacheWriter(tmp_path, make_spec())
    with write_again:  # the refused one has given the lock back
        assert write_again.manifest == load_manifest(tmp_path)
    assert tree(tmp_path) == before


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        CacheWriter(tmp_path, make_spec()),
        pytest.raises(CacheBusyError, match=f"process {os.getpid()} "),
    ):
        CacheWriter(tmp_path, make_spec()).__enter__()
    with CacheWriter(tmp_path, make_spec()):
        pass


def test_a_place_where_no_cache_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "odd" / ".lock").mkdir(parents=True)

    for place, reason in (("file", "File exists"), ("file/x", "File exists"), ("odd", "Is a dir")):
        with pytest.raises(CacheError, match=rf"{place}: a cache cannot be .*\({reason}.*another"):
            CacheWriter(tmp_path / place, make_spec()).__enter__()


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    write(tmp_path)
    ours = ["cache.json", "images/00002.h5", "images/aside-0123456789abcdef.shard.89abcdef",
            "questions/00001.h5", "splits/val.h5"]  # fmt: skip
    others = ["thesis.pdf", "images/cat.jpg", "downloads/00000.h5"]
    (tmp_path / "downloads").mkdir()
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
    aside = ["images/aside-0123456789abcdef.shard", "questions/aside-0123456789abcdef.shard"]
    others = ["images/mine.h5", "images/0001.json", "images/7.h5", "splits/mine.h5", "notes.json",
              "00009.h5", "downloads/00000.h5"]  # fmt: skip
    (tmp_path / "images" / "00009.h5").mkdir()
    (tmp_path / "downloads").mkdir()
    for name in [*dead, *aside, *others]:
        (tmp_path / name).write_bytes(b"what it was")
    with CacheWriter(tmp_path, make_spec()):  # what lies aside may be of use to it
        assert set(tree(tmp_path)) == {*before, *others, *aside}
    assert set(tree(tmp_path)) == set(before) | set(others)


def test_a_shard_is_replaced_by_no_other_rows(tmp_path: Path) -> None:
    write(tmp_path)
    before = tree(tmp_path)
    shard = image_shard(make_spec(), new_images(IDS[:3], PICTURES[:3] * 2, CLS[:3]))
    renamed = image_shard(make_spec(), new_images(IDS[2::-1], PICTURES[:3], CLS[:3]))
    fewer = image_shard(make_spec(), new_images(IDS[:2], PICTURES[:2], CLS[:2]))
    with CacheWriter(tmp_path, make_spec()) as writer:
        for other in (renamed, fewer):
            with pytest.raises(CacheError, match=r"00000.h5: what was made again holds other rows"):
                writer.replace_shard(0, other)
        assert tree(tmp_path) == before
        assert not writer.replace_shard(0, shard)
    out = np.empty((1, PATCHES, VISION_DIM), np.float16)
    FeatureCache(tmp_path).read_images(np.array([2]), out)
    np.testing.assert_array_equal(out[0], PICTURES[2] * 2)


def test_shards_without_a_manifest_are_not_written_over(tmp_path: Path) -> None:
    write(tmp_path)
    shards = {name: data for name, data in tree(tmp_path).items() if name not in EMPTY}
    for name in EMPTY:
        (tmp_path / name).unlink()

    with pytest.raises(CacheError, match=r"the folder 'images' is .* not empty, but neither cache"):
        CacheWriter(tmp_path, make_spec()).__enter__()
    assert tree(tmp_path) == shards


def test_a_folder_with_pictures_of_a_person_is_no_cache_to_be(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00001.json").write_text("a label")

    with pytest.raises(CacheError, match="give another --cache"):
        CacheWriter(tmp_path, make_spec()).__enter__()
    assert tree(tmp_path) == {"images/00001.json": b"a label"}


def test_a_cache_without_anything_may_become_another(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()):
        pass
    with CacheWriter(tmp_path, make_spec(dtype="float32")):
        pass
    assert load_manifest(tmp_path).spec.dtype == "float32"


def test_what_says_the_same_again_is_brought_back(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_images(writer, new_images(IDS, PICTURES, CLS), failures=failures("b"))
    before = tree(tmp_path)
    (tmp_path / "cache.copy.json").unlink()
    (tmp_path / "failures.jsonl").write_bytes(b"")
    with CacheWriter(tmp_path, make_spec()):
        pass
    assert tree(tmp_path) == before


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
        with pytest.raises(CacheError, match=r"cannot be written .*\(No space left"):
            write(directory)

    assert not list(directory.rglob("*.partial"))
    if (directory / "cache.json").exists():
        manifest = load_manifest(directory)
        for record in manifest.files:
            assert check_file(directory, manifest, record) is None
            assert (directory / record.file).read_bytes() == whole[record.file]


def failures(*names: str) -> list[Failure]:
    return [Failure(name, f"{name}.jpg", "truncated") for name in names]


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


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("images/00001.h5", "image_id_utf8"),
        ("images/00001.h5", "image_id_offsets"),
        ("questions/00000.h5", "question_utf8"),
        ("questions/00000.h5", "prefix_parent"),
        ("questions/00000.h5", "prefix_token"),
    ],
)
def test_what_is_stored_is_not_extended_from_flipped_bits(
    file: str, name: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with h5py.File(tmp_path / file, "r+") as shard:
        data = shard[name][()]
        data[-1] ^= 1
        shard[name][...] = data

    with (
        CacheWriter(tmp_path, make_spec()) as writer,
        pytest.raises(CacheDamagedError, match=f"{file}: what it says of its rows is not what"),
    ):
        (names(tmp_path, "images"), read_prefixes(tmp_path, writer.manifest))
