"""Rows come back as they were written, from any shard in any order; damaged ones never do."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from caches import (
    PATCHES,
    TEXT_DIM,
    VISION_DIM,
    Made,
    Row,
    add_images,
    add_questions,
    make_cache,
    make_spec,
    new_images,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import CacheDamagedError, CacheError, CacheWriter, FeatureCache, SplitTable
from cache.files import digest, row_digests
from cache.hdf5 import Hdf5File, column_datasets, hdf5_bytes, text_datasets
from cache.manifest import Manifest, ShardRecord, load_manifest
from cache.quantise import dequantise
from cache.reader import open_shard
from cache.rows import FileRows
from cache.shards import FEATURES, NewQuestions
from cache.verify import Damage, check_file, verify

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
            add_images(writer, new_images(ids, rows, np.ascontiguousarray(rows[:, 0])))
        add_questions(
            writer,
            NewQuestions(TEXTS[:2], PATHS[:2], np.array([-1, 0, 1, 0]), np.arange(4), STATES[:4]),
        )
        add_questions(
            writer, NewQuestions(TEXTS[2:3], PATHS[2:3], np.array([1, 4]), np.arange(2), STATES[4:])
        )
        add_questions(writer, NewQuestions(TEXTS[3:], PATHS[3:], none, none, STATES[:0]))
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
    read(cache, [1, 6])
    read(cache, [6, 2, 1])

    assert len(checked) == 3


def test_every_damaged_byte_of_every_file_is_found(mine: Path) -> None:
    manifest = load_manifest(mine)
    for record in manifest.files:
        path = mine / record.file
        data = path.read_bytes()
        for place in {0, len(data) // 3, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            damage = check_file(mine, manifest, record)
            assert damage is not None
            assert damage.file == record.file
            assert "not what was written" in damage.reason or "not those that" in damage.reason
        for wrong in (data[:-1], data + b"\0", b""):
            path.write_bytes(wrong)
            expected = f"has {len(wrong):,} bytes instead of {len(data):,}"
            assert check_file(mine, manifest, record) == Damage(record.file, expected)
        path.unlink()
        assert check_file(mine, manifest, record) == Damage(record.file, "the file is missing")
        path.mkdir()
        expected = "cannot be read (not a regular file)"
        assert check_file(mine, manifest, record) == Damage(record.file, expected)
        path.rmdir()
        path.write_bytes(data)
        assert check_file(mine, manifest, record) is None


@pytest.mark.parametrize(
    ("file", "dataset", "row", "names"),
    [
        ("images/00002.h5", "patch_embeddings", 1, ["p5"]),
        ("images/00000.h5", "cls", 2, ["p2"]),
        ("questions/00001.h5", "hidden_states", 1, [""]),
        ("questions/00000.h5", "hidden_states", 0, ["one", "zwei"]),
        ("questions/00000.h5", "hidden_states", 3, ["zwei"]),
    ],
)
def test_the_rows_of_a_damaged_shard_are_named(
    file: str, dataset: str, row: int, names: list[str], mine: Path
) -> None:
    flip_row(mine / file, dataset, row)
    manifest = load_manifest(mine)
    record = next(record for record in manifest.files if record.file == file)

    reason = "1 rows are not what was written"
    assert check_file(mine, manifest, record) == Damage(file, reason, [row], names)


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
        ("patch_scales", "what it says of its rows is not what was written", []),
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


def test_questions_of_a_later_shard_are_named_by_its_own_rows(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_spec()) as writer:
        add_questions(
            writer, NewQuestions(["a"], [[0, 1]], np.array([-1, 0]), np.arange(2), STATES[:2])
        )
        paths = [[0, 2], [0, 1, 3]]
        add_questions(
            writer, NewQuestions(["b", "c"], paths, np.array([0, 1]), np.arange(2), STATES[2:4])
        )
    manifest = load_manifest(tmp_path)
    for row, name in ((0, "b"), (1, "c")):
        flip_row(tmp_path / "questions" / "00001.h5", "hidden_states", row)
        damage = check_file(tmp_path, manifest, manifest.questions[1])
        assert damage is not None
        assert (damage.rows, damage.names) == ([row], [name])
        flip_row(tmp_path / "questions" / "00001.h5", "hidden_states", row)


def flip_row(path: Path, dataset: str, row: int) -> None:
    with h5py.File(path, "r+") as file:
        rows = file[dataset][row]
        rows.view(np.uint8).flat[-1] ^= 1
        file[dataset][row] = rows


def test_all_files_are_read_and_the_damaged_ones_named(mine: Path) -> None:
    flip_row(mine / "images" / "00002.h5", "cls", 0)
    (mine / "splits" / "test.h5").write_bytes(b"")
    manifest = load_manifest(mine)

    found = list(verify(mine, manifest))
    assert sorted(r.file for r, _ in found) == sorted(r.file for r in manifest.files)
    damaged = sorted(damage.file for _, damage in found if damage)
    assert damaged == ["images/00002.h5", "splits/test.h5"]


def test_a_disk_that_cannot_be_read_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    manifest = load_manifest(directory)
    for name in ("cache.files.open_regular", "cache.verify.open_regular"):
        monkeypatch.setattr(name, fail)

    record = manifest.files[0]
    expected = Damage(record.file, "cannot be read (Input/output error)")
    assert check_file(directory, manifest, record) == expected
    with pytest.raises(CacheDamagedError, match=r"00000.h5: cannot be read \(Input/output error"):
        open_shard(directory, "images", manifest.images[0])


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
    replace_file(directory, name, hdf5_bytes(datasets))


def replace_file(directory: Path, name: str, data: bytes) -> None:
    """Put other bytes in the place of a file, and all digests that go with them."""
    (directory / name).write_bytes(data)
    manifest = load_manifest(directory)

    def renewed(record: Any) -> Any:
        if record.file != name:
            return record
        changes = {"bytes": len(data), "xxh3": digest(data)}
        if isinstance(record, ShardRecord):
            kind = name.split("/")[0]
            file = Hdf5File(directory / name, data)
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


def save(directory: Path, manifest: Manifest) -> None:
    (directory / "cache.json").write_bytes(manifest.to_json().encode())


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


def test_the_old_bytes_under_a_new_size_are_refused_at_once(mine: Path) -> None:
    path = mine / "images" / "00001.h5"
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(CacheDamagedError, match=r"images/00001\.h5: has .* bytes, the manifest"):
        FeatureCache(mine)


def test_a_pipe_in_place_of_a_shard_does_not_block(mine: Path) -> None:
    path = mine / "images" / "00001.h5"
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(CacheDamagedError, match=r"images/00001\.h5: is missing"):
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
    replace_file(mine, "images/00000.h5", path.read_bytes())

    cache = FeatureCache(mine)
    np.testing.assert_array_equal(read(cache, [2, 3, 0]), np.stack([new[2], PICTURES[3], new[0]]))
    assert cache.image_ids() == ["x", "y", "z", *(f"p{i}" for i in range(3, ROWS))]


@pytest.mark.parametrize(("hard", "expected"), [(200, "read 60"), (40, "may not open more files")])
def test_more_shards_than_open_files(hard: int, expected: str, tmp_path: Path) -> None:
    """The usual limit of open files can be raised by the process itself, up to a second one."""
    with CacheWriter(tmp_path, make_spec()) as writer:
        for number in range(60):
            add_images(writer, new_images([str(number)], PICTURES[:1], PICTURES[:1, 0].copy()))
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from cache import CacheError, FeatureCache\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (30, {hard}))\n"
        "cache = FeatureCache(Path(sys.argv[1]))\n"
        f"out = np.empty((60, {PATCHES}, {VISION_DIM}), np.float16)\n"
        "try: cache.read_images(np.arange(60), out); print('read', len(cache._shards))\n"
        "except CacheError as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert expected in ran.stdout


def test_a_folder_that_may_not_be_entered_is_one_sentence(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(CacheDamagedError, match=r"00000.h5: cannot be read \(Permission denied"):
        FeatureCache(directory)


def test_a_shard_without_one_of_its_datasets_is_damage(mine: Path) -> None:
    whole = datasets_of(mine / "images" / "00000.h5")
    put(mine, "images/00000.h5", {name: a for name, a in whole.items() if name != "cls"})
    (mine / "images" / "00000.h5").write_bytes(
        (mine / "images" / "00000.h5").read_bytes()[:-1] + b"?"
    )
    manifest = load_manifest(mine)
    damage = check_file(mine, manifest, manifest.images[0])

    assert damage is not None
    assert damage.reason == "what it says of its rows is not what was written"


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_where_nothing_can_be_mapped_rows_are_read(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows, checked as well, and no shard is kept in memory."""
    rows = [Row(image, 0) for image in range(9)]
    directory = make_cache(tmp_path, {"train": rows}, spec=make_spec(dtype=dtype)).directory
    order = np.array([8, 0, 4, 4, 7])

    def read(cache: FeatureCache) -> list[list]:
        out = np.empty((5, PATCHES, VISION_DIM), cache.spec.image_dtype)
        scales = np.zeros((5, PATCHES), np.float16)
        cache.read_images(order, out, scales)
        return [out.tolist(), scales.tolist()]

    expected = read(FeatureCache(directory))
    calls = []

    def no_maps(path: Path) -> memoryview:
        calls.append(path)
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("cache.reader.map_file", no_maps)
    cache = FeatureCache(directory)
    assert read(cache) == read(cache) == expected
    assert len(calls) == 2
    assert all(isinstance(shard.rows, FileRows) for shard in cache._shards.values())

    path = directory / "images/00001.h5"
    data = bytearray(path.read_bytes())
    offset = Hdf5File(path, bytes(data)).layout["patch_embeddings"].offset
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheDamagedError, match=r"00001\.h5: row 0 differs from its digest"):
        FeatureCache(directory).read_images(
            np.array([5]),
            np.empty((1, PATCHES, VISION_DIM), cache.spec.image_dtype),
            np.empty((1, PATCHES), np.float16),
        )
    os.truncate(path, offset + 3 * PATCHES * VISION_DIM + 1)
    with pytest.raises(CacheDamagedError, match=r"00001\.h5: ends before row 3"):
        cache._shards[1].rows[3]


def test_a_row_that_the_disk_cannot_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(bytes(range(12)))
    rows = FileRows(path, 2, (2, 5), np.dtype("uint8"))
    assert rows[1].tolist() == [7, 8, 9, 10, 11]

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(CacheDamagedError, match=r"rows: row 1 cannot be read \(Input/output error"):
        rows[1]
