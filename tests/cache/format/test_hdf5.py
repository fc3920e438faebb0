"""Any h5py reads what we write; we believe only files that we could have written."""

import itertools
import mmap
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.bfloat16 import BFLOAT16
from frozen_vqa.cache.format.digests import row_digest
from frozen_vqa.cache.format.hdf5 import (
    ALIGNMENT,
    DTYPES,
    Hdf5Bytes,
    Hdf5File,
    add_bfloat16,
    build_hdf5,
    column_datasets,
    text_datasets,
)

ROWS = np.arange(3 * 4 * 500, dtype=np.float16).reshape(3, 4, 500)
FEW = np.array([[1.5, -2.0, 3.25]], dtype=np.float32)
COLUMN = np.array([7, -1, 2**40, 0], dtype=np.int64)
FLOAT16, INT64 = np.dtype(np.float16), np.dtype(np.int64)

in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)


def written(path: Path, datasets: dict[str, np.ndarray]) -> Path:
    path.write_bytes(joined(build_hdf5(datasets)))
    return path


def opened(datasets: dict[str, np.ndarray]) -> Hdf5File:
    return reopened(build_hdf5(datasets))


def joined(new: Hdf5Bytes) -> bytes:
    return b"".join(new.pieces)


def reopened(new: Hdf5Bytes) -> Hdf5File:
    return Hdf5File(Path("a.h5"), joined(new), new.datasets)


def test_plain_h5py_reads_what_we_write(tmp_path: Path) -> None:
    arrays = {"rows": ROWS, "few": FEW, "column": COLUMN, "none": COLUMN[:0]}
    path = written(tmp_path / "a.h5", arrays)

    with h5py.File(path) as file:
        assert set(file) == set(arrays)
        for name, array in arrays.items():
            dataset = file[name]
            plist = dataset.id.get_create_plist()
            assert dataset.dtype == array.dtype
            np.testing.assert_array_equal(dataset[()], array)
            assert plist.get_layout() == h5py.h5d.CONTIGUOUS
            assert plist.get_nfilters() == 0
        assert file["rows"].id.get_offset() % ALIGNMENT == 0


def test_arrays_are_read_only_views_of_a_mapped_file(tmp_path: Path) -> None:
    new = build_hdf5({"first": COLUMN, "rows": ROWS, "rows2": ROWS + 1})
    path = tmp_path / "a.h5"
    path.write_bytes(joined(new))
    with path.open("r+b") as handle:
        mapped = mmap.mmap(handle.fileno(), 0)  # writable, as `array` must not be
    file = Hdf5File(path, mapped, new.datasets)
    rows, rows2 = (file.array(name, ROWS.shape, FLOAT16) for name in ("rows", "rows2"))
    del file

    whole = np.frombuffer(mapped, np.uint8)
    for found, expected in ((rows, ROWS), (rows2, ROWS + 1)):
        np.testing.assert_array_equal(found, expected)
        assert np.shares_memory(found, whole)
        assert found.ctypes.data % mmap.PAGESIZE == 0
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 0
    del mapped, whole
    np.testing.assert_array_equal(rows, ROWS)


@given(
    st.dictionaries(
        st.text("abcXYZ_019", min_size=1, max_size=8),
        arrays_of.arrays(
            st.sampled_from(list(DTYPES.values())),
            arrays_of.array_shapes(min_side=0, max_dims=4, max_side=6),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_arrays_come_back_as_they_were(arrays: dict[str, np.ndarray]) -> None:
    file = opened(arrays)

    for name, array in arrays.items():
        found = file.array(name, array.shape, array.dtype)
        assert found.tobytes() == array.tobytes()
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        assert not found.flags.writeable


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 5000),
    st.sampled_from([(16, 24), (64,), (7,), (5, 5, 2), (4096,)]),
    st.sampled_from(list(DTYPES.values())),
    st.lists(st.integers(0, 3000), max_size=12),
    st.integers(0, 12),
)
def test_rows_that_are_not_copied_lie_where_h5py_puts_them(
    rows: int, shape: tuple[int, ...], dtype: np.dtype, others: list[int], place: int
) -> None:
    """Few of the rows are laid out by h5py; all of them give the file that it would make."""
    rows = min(rows, (1 << 20) // int(np.prod(shape)))
    numbers = np.random.default_rng(rows).integers(0, 100, (rows, *shape)).astype(dtype)
    names = [f"other {i}" for i in range(len(others))]
    columns = {name: np.arange(n, dtype=np.int64) for name, n in zip(names, others, strict=True)}
    names.insert(place, "rows")
    arrays = {name: {**columns, "rows": numbers}[name] for name in names}
    new = build_hdf5(arrays)

    with h5py.File.in_memory(
        block_size=1 << 20, alignment_threshold=ALIGNMENT, alignment_interval=ALIGNMENT
    ) as plain:
        for name, array in arrays.items():
            if array.dtype == BFLOAT16:
                add_bfloat16(plain, name, array)
            else:
                plain.create_dataset(name, data=array, track_times=False)
        plain.flush()
        assert joined(new) == plain.id.get_file_image()


def test_rows_are_not_copied() -> None:
    rows = np.zeros((64, 16, 24), np.float16)
    pieces = build_hdf5({"column": COLUMN, "rows": rows}).pieces
    assert np.shares_memory(np.frombuffer(pieces[1], np.uint8), rows)


def test_the_same_arrays_give_the_same_bytes() -> None:
    datasets = {"rows": ROWS, **text_datasets("name", ["a", "", "ü"])}
    began = int(time.time())
    new = build_hdf5(datasets)
    data = joined(new)
    assert new == build_hdf5({name: a.copy() for name, a in datasets.items()})
    for second in range(began, int(time.time()) + 1):  # no time of making is stored
        assert struct.pack("<I", second) not in data
    assert data != joined(build_hdf5(datasets | {"rows": ROWS + 1}))


@in_one_folder
@given(st.lists(st.text(max_size=8), max_size=6))
def test_texts_come_back_as_they_were(tmp_path: Path, texts: list[str]) -> None:
    path = written(tmp_path / "a.h5", text_datasets("name", texts))

    assert opened(text_datasets("name", texts)).texts("name") == texts
    with h5py.File(path) as plain:
        joined, offsets = plain["name_utf8"][()].tobytes(), plain["name_offsets"][()]
    assert [joined[a:b].decode() for a, b in itertools.pairwise(offsets)] == texts


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_columns_come_back_as_they_were(values: list[int]) -> None:
    file = opened(column_datasets("n", np.array(values, dtype=np.int64)))

    assert file.column("n").tolist() == values


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, "'x' is missing, but the cache needs it"),
        (COLUMN[:3], r"'x' is int64 \(3,\), but the cache needs int64 \(4,\)"),
        (COLUMN[None], r"'x' is int64 \(1, 4\), but the cache needs int64 \(4,\)"),
        (COLUMN.astype("u8"), "'x' is uint64 .*needs int64"),
        (COLUMN.astype("f4"), "'x' is float32 .*needs int64"),
        (COLUMN.astype("i4"), "'x' is int32 .*needs int64"),
    ],
)
def test_a_dataset_other_than_needed_is_refused(array: np.ndarray | None, message: str) -> None:
    file = opened({"y": COLUMN} if array is None else {"x": array, "y": COLUMN})

    with pytest.raises(CacheDamagedError, match=f"^a.h5: {message}"):
        file.array("x", COLUMN.shape, INT64)
    with pytest.raises(CacheDamagedError, match=r"^a.h5: 'x"):
        file.column("x")


def test_a_column_is_checked_against_its_digest() -> None:
    whole = column_datasets("n", COLUMN)
    other = column_datasets("n", COLUMN + 1)

    for changes, message in (
        ({"n": other["n"]}, "'n' differs from its digest"),
        ({"n_xxh3": other["n_xxh3"]}, "'n' differs from its digest"),
        ({"n_xxh3": np.zeros(2, np.uint64)}, r"'n_xxh3' is uint64 \(2,\)"),
        ({"n": COLUMN[:, None]}, r"'n' is int64 \(4, 1\)"),
    ):
        with pytest.raises(CacheDamagedError, match=f"^a.h5: {message}"):
            opened(whole | changes).column("n")
    with pytest.raises(CacheDamagedError, match=r"^a.h5: 'n_xxh3' is missing"):
        opened({"n": COLUMN}).column("n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (column_datasets("t_offsets", np.array([0, 1, 4])), "offsets do not fit"),
        (column_datasets("t_offsets", np.array([1, 2, 3])), "offsets do not fit"),
        (column_datasets("t_offsets", np.array([0, 4, 2, 3])), "offsets do not fit"),
        (column_datasets("t_offsets", COLUMN[:0]), "offsets do not fit"),
        (column_datasets("t_offsets", np.float32([0.0, 3.0])), "float32 .*needs int64"),
        (column_datasets("t_utf8", np.frombuffer(b"a\xff\xfe", np.uint8)), "is not UTF-8"),
        (column_datasets("t_utf8", np.array([1, 2, 3])), "int64 .*needs uint8"),
        ({"t_utf8": np.frombuffer(b"axc", np.uint8)}, "'t_utf8' differs from its digest"),
        ({"t_offsets": np.array([0, 2, 3])}, "'t_offsets' differs from its digest"),
        ({"t_utf8_xxh3": COLUMN[:1]}, "int64 .*needs uint64"),
    ],
)
def test_text_that_does_not_fit_together_is_refused(
    changes: dict[str, np.ndarray], message: str
) -> None:
    file = opened(text_datasets("t", ["a", "bc"]) | changes)

    with pytest.raises(CacheDamagedError, match=message):
        file.texts("t")


def flips(data: bytes, places: range | list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield copies of a file in which one bit of each of these bytes is the other way round."""
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        yield place, bytes(damaged)


def test_no_flipped_bit_is_read_as_something_else() -> None:
    """One bit of every byte, of structures as of data."""
    rows = np.arange(2 * 3 * 5, dtype=np.float16).reshape(2, 3, 5) + 1
    digests = [row_digest(row) for row in rows]
    datasets = {"rows": rows, "rows_xxh3": np.array(digests, dtype=np.uint64)}
    new = build_hdf5({**datasets, **text_datasets("id", ["a", "bcd", "é"])})
    seen = {"refused": 0, "row": 0, "same": 0}
    for _, damaged in flips(joined(new), [place for place, byte in enumerate(joined(new)) if byte]):
        file = Hdf5File(Path("a.h5"), damaged, new.datasets)
        try:
            found, stored = file.rows("rows", rows.shape, FLOAT16)
            texts = file.texts("id")
        except CacheDamagedError:
            seen["refused"] += 1
            continue
        good = [row_digest(row) == one for row, one in zip(found, stored, strict=True)]
        np.testing.assert_array_equal(found[good], rows[good])
        assert texts == ["a", "bcd", "é"]
        seen["same" if all(good) else "row"] += 1
    assert min(seen.values()) > 20, seen


def test_the_structure_digest_covers_every_byte_but_the_features() -> None:
    features = {"rows": ROWS[:, :, :50], "more": FEW}
    new = build_hdf5({**features, "none": ROWS[:0], **text_datasets("id", ["a", "bcd"])})
    names = [*features, "none", "absent"]
    file = reopened(new)
    whole = file.structure_digest(names)
    extents = [file.extents[name] for name in features]
    inside = {i for e in extents for i in range(e.offset, e.offset + e.nbytes)}
    for place, damaged in flips(joined(new), range(len(joined(new)))):
        found = Hdf5File(Path("a.h5"), damaged, new.datasets).structure_digest(names)
        assert (found == whole) == (place in inside), place
    assert len(inside) == 3 * 4 * 50 * 2 + 3 * 4


def test_the_structure_digest_knows_what_was_left_out() -> None:
    """Three equal arrays: what remains is the same bytes, whichever is left out."""
    file = opened(dict.fromkeys("abc", COLUMN))
    sets = ["", "a", "b", "c", "ab", "bc", "ac", "abc"]
    digests = {names: file.structure_digest(list(names)) for names in sets}

    assert len(set(digests.values())) == len(sets)
    assert file.structure_digest(["c", "a", "a"]) == digests["ac"]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in digests.values())
    other = opened({"a": COLUMN + 1, "b": COLUMN, "c": COLUMN})
    assert other.structure_digest(["a"]) == digests["a"]
    assert other.structure_digest(["b"]) != digests["b"]
