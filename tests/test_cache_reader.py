"""Rows come back as they were written, from any shard in any order; damaged ones never do."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from caches import PATCHES, TEXT_DIM, VISION_DIM, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import CacheDamagedError, CacheError, CacheWriter, FeatureCache, SplitTable
from cache.files import digest, row_digests
from cache.hdf5 import column_datasets, hdf5_bytes, text_datasets
from cache.manifest import FileRecord, Manifest, load_manifest
from cache.writer import NewQuestions

SHARDS = (3, 1, 4)
ROWS = sum(SHARDS)
RNG = np.random.default_rng(1)
PICTURES = RNG.standard_normal((ROWS, PATCHES, VISION_DIM)).astype(np.float16)
STATES = RNG.standard_normal((6, TEXT_DIM)).astype(np.float16)
PATHS = [[0, 1, 2], [0, 3], [0, 1, 4, 5], [0]]
TEXTS = ["one", "zwei", "", "fünf?"]
SPLIT = SplitTable(
    [5, "5"], np.array([7, 0]), np.array([3, 1]), [("a", "b"), ()], ["", "t"], ["", ""]
)


def write(directory: Path) -> None:
    none = np.empty(0, np.int64)
    with CacheWriter(directory, make_spec()) as writer:
        for first, last in zip(np.cumsum([0, *SHARDS]), np.cumsum(SHARDS), strict=False):
            ids = [f"p{i}" for i in range(first, last)]
            rows = PICTURES[first:last]
            writer.add_images(ids, rows, np.ascontiguousarray(rows[:, 0]))
        writer.add_questions(
            NewQuestions(TEXTS[:2], PATHS[:2], np.array([-1, 0, 1, 0]), np.arange(4), STATES[:4])
        )
        writer.add_questions(
            NewQuestions(TEXTS[2:3], PATHS[2:3], np.array([1, 4]), np.arange(2), STATES[4:])
        )
        writer.add_questions(NewQuestions(TEXTS[3:], PATHS[3:], none, none, STATES[:0]))
        writer.set_split("val", SPLIT, left_out=1)
        writer.set_split("test", SPLIT, left_out=0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cache")
    write(place)
    return place


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A cache that a test may damage."""
    write(tmp_path)
    return tmp_path


def read(cache: FeatureCache, rows: list[int], dtype: type = np.float16) -> np.ndarray:
    out = np.full((len(rows), PATCHES, VISION_DIM), np.nan, dtype=dtype)
    cache.read_images(np.array(rows, dtype=np.int64), out)
    return out


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
    assert [record.file for record in cache.files()] == [
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
    Manifest(spec=make_spec()).save(tmp_path)
    cache = FeatureCache(tmp_path)

    assert cache.questions.hidden_states.shape == (0, TEXT_DIM)
    assert cache.questions.lengths().tolist() == []
    assert (list(cache.questions.texts), cache.image_ids(), cache.files()) == ([], [], [])
    with pytest.raises(IndexError, match="image row outside"):
        read(cache, [0])


def test_a_missing_split_names_those_that_are_there(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no split 'vall' .*\(splits: val, test\).*--split vall"):
        FeatureCache(directory).split("vall")
    Manifest(spec=make_spec()).save(tmp_path)
    with pytest.raises(CacheError, match=r"\(splits: none\)"):
        FeatureCache(tmp_path).split("val")


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


def test_a_row_is_not_checked_twice(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(
        "cache.reader.row_digest", lambda row: checked.append(1) or row_digests(row[None])[0]
    )
    cache = FeatureCache(directory)
    read(cache, [1, 6, 1])
    read(cache, [6, 2, 1])

    assert len(checked) == 3


def test_every_damaged_byte_of_every_file_is_found(mine: Path) -> None:
    cache = FeatureCache(mine)
    for record in cache.files():
        path = mine / record.file
        data = path.read_bytes()
        for place in {0, len(data) // 3, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            assert "digest differs" in cache.problem_with(record)
            assert str(path) in cache.problem_with(record)
        for wrong in (data[:-1], data + b"\0", b""):
            path.write_bytes(wrong)
            assert f"has {len(wrong):,} bytes, the manifest needs" in cache.problem_with(record)
        path.unlink()
        assert "is missing" in cache.problem_with(record)
        path.write_bytes(data)
        assert cache.problem_with(record) == ""


def test_a_disk_that_cannot_be_read_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    cache = FeatureCache(directory)
    monkeypatch.setattr(Path, "read_bytes", fail)

    assert "00000.h5: cannot be read (Input/output error)" in cache.problem_with(cache.files()[0])


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

    with pytest.raises(CacheDamagedError, match=f"{file}: .*digest differs.*Restore it"):
        (cache.questions, cache.split("val"))


def put(directory: Path, name: str, datasets: dict[str, np.ndarray]) -> None:
    """Replace a file of the cache by another with a digest that goes with it."""
    data = hdf5_bytes(datasets)
    (directory / name).write_bytes(data)
    manifest = load_manifest(directory)

    def renewed(record: FileRecord) -> FileRecord:
        if record.file != name:
            return record
        return FileRecord(**{**vars(record), "bytes": len(data), "xxh3": digest(data)})

    Manifest(
        spec=manifest.spec,
        images=tuple(renewed(record) for record in manifest.images),
        questions=tuple(renewed(record) for record in manifest.questions),
        splits={key: renewed(record) for key, record in manifest.splits.items()},
    ).save(directory)


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
        ("questions/00000.h5", text_datasets("question", ["one"]), "paths do not fit"),
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
            column_datasets("path_offsets", np.array([0, 7, 5])),
            "offsets do not fit",
        ),
        ("splits/val.h5", column_datasets("image_row", np.array([0, ROWS])), "points outside"),
        ("splits/val.h5", column_datasets("image_row", np.array([-1, 0])), "points outside"),
        ("splits/val.h5", column_datasets("question_row", np.array([4, 0])), "points outside"),
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
    manifest = load_manifest(mine)
    data = path.read_bytes()
    first = FileRecord("images/00000.h5", 3, len(data), digest(data))
    Manifest(spec=manifest.spec, images=(first, *manifest.images[1:])).save(mine)

    cache = FeatureCache(mine)
    np.testing.assert_array_equal(read(cache, [2, 3, 0]), np.stack([new[2], PICTURES[3], new[0]]))
    assert cache.image_ids() == ["x", "y", "z", *(f"p{i}" for i in range(3, ROWS))]
