"""What the writer refuses, so that the cache stays what it was."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from frozen_vqa.cache import (
    CacheBusyError,
    CacheDamagedError,
    CacheError,
    CacheMismatchError,
    CacheWriter,
    FeatureCache,
)
from frozen_vqa.cache.disk.integrity import load_manifest, read_prefixes
from frozen_vqa.cache.format.quantise import dequantise, quantise
from frozen_vqa.cache.format.shards import image_shard
from frozen_vqa.cache.writer import own_cache
from tests.support.caches import (
    PATCHES,
    VISION_DIM,
    add_images,
    add_questions,
    make_spec,
    new_images,
)
from tests.support.writing import CLS, EMPTY, IDS, PICTURES, SECOND, SPLIT, names, tree, write


@pytest.mark.parametrize("name", ["a/b", "../val", "/val", "val/"])
def test_a_split_whose_name_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with (
        CacheWriter(tmp_path / "cache", make_spec()) as writer,
        pytest.raises(CacheError, match=f"split {name!r}: a file cannot have this name"),
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
            CacheError, match=f"^{re.escape(what)}: not finite in float16, .*--dtype float32"
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
        ("int8", None, "need scales in an int8"),
        ("float16", np.ones(PICTURES.shape[:2], np.float16), "need scales in an int8"),
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
    own_cache(tmp_path / "odd").claim()
    (tmp_path / "odd" / ".lock").mkdir()

    no_folder, odd = "file: this is no folder", r"odd: cannot be written \(Is a dir.*another"
    for place, reason in (("file", no_folder), ("file/x", no_folder), ("odd", odd)):
        with pytest.raises(CacheError, match=reason):
            CacheWriter(tmp_path / place, make_spec()).__enter__()


def test_a_shard_is_replaced_by_no_other_rows(tmp_path: Path) -> None:
    write(tmp_path)
    before = tree(tmp_path)
    shard = image_shard(make_spec(), new_images(IDS[:3], PICTURES[:3] * 2, CLS[:3]))
    renamed = image_shard(make_spec(), new_images(IDS[2::-1], PICTURES[:3], CLS[:3]))
    fewer = image_shard(make_spec(), new_images(IDS[:2], PICTURES[:2], CLS[:2]))
    with CacheWriter(tmp_path, make_spec()) as writer:
        for other in (renamed, fewer):
            with pytest.raises(CacheError, match=r"00000.h5: the rebuilt shard holds other rows"):
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

    with pytest.raises(CacheError, match="Give --cache a new or an empty folder"):
        CacheWriter(tmp_path, make_spec()).__enter__()
    assert tree(tmp_path) == {"images/00001.json": b"a label"}


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
        pytest.raises(
            CacheDamagedError, match=f"{file}: its bytes outside of the features are not"
        ),
    ):
        (names(tmp_path, "images"), read_prefixes(tmp_path, writer.manifest))
