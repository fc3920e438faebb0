"""Any h5py reads what we write; we believe only files that we could have written."""

import itertools
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.errors import CacheDamagedError
from cache.files import row_digest
from cache.hdf5 import ALIGNMENT, Hdf5File, column_datasets, hdf5_bytes, text_datasets

ROWS = np.arange(3 * 4 * 500, dtype=np.float16).reshape(3, 4, 500)
FEW = np.array([[1.5, -2.0, 3.25]], dtype=np.float32)
COLUMN = np.array([7, -1, 2**40, 0], dtype=np.int64)
FLOAT16, INT64 = np.dtype(np.float16), np.dtype(np.int64)

in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)


def written(path: Path, datasets: dict[str, np.ndarray]) -> Path:
    path.write_bytes(hdf5_bytes(datasets))
    return path


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


def test_rows_may_be_mapped_at_their_offset(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", {"first": COLUMN, "rows": ROWS, "rows2": ROWS + 1})
    with Hdf5File(path) as file:
        extents = [file.extent(name, ROWS.shape, FLOAT16) for name in ("rows", "rows2")]

    for extent, expected in zip(extents, (ROWS, ROWS + 1), strict=True):
        mapped = np.memmap(path, FLOAT16, mode="r", offset=extent.offset, shape=ROWS.shape)
        np.testing.assert_array_equal(mapped, expected)
        assert extent.offset % 4096 == 0


def test_the_same_arrays_give_the_same_bytes() -> None:
    datasets = {"rows": ROWS, **text_datasets("name", ["a", "", "ü"])}
    began = int(time.time())
    data = hdf5_bytes(datasets)

    assert data == hdf5_bytes({name: a.copy() for name, a in datasets.items()})
    for second in range(began, int(time.time()) + 1):  # no time of making is stored
        assert struct.pack("<I", second) not in data
    assert hdf5_bytes(datasets) != hdf5_bytes(datasets | {"rows": ROWS + 1})


def test_we_read_what_plain_h5py_wrote(tmp_path: Path) -> None:
    digests = np.array([row_digest(COLUMN)], dtype=np.uint64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["rows"] = ROWS
        file["column"] = COLUMN
        file["column_xxh3"] = digests

    with Hdf5File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file.array("rows", ROWS.shape, FLOAT16), ROWS)
        np.testing.assert_array_equal(file.column("column"), COLUMN)
        extent = file.extent("rows", ROWS.shape, FLOAT16)
    mapped = np.memmap(
        tmp_path / "a.h5", FLOAT16, mode="r", offset=extent.offset, shape=extent.shape
    )
    np.testing.assert_array_equal(mapped, ROWS)


@in_one_folder
@given(st.lists(st.text(max_size=8), max_size=6))
def test_texts_come_back_as_they_were(tmp_path: Path, texts: list[str]) -> None:
    path = written(tmp_path / "a.h5", text_datasets("name", texts))

    with Hdf5File(path) as file:
        assert file.texts("name") == texts
    with h5py.File(path) as plain:
        joined, offsets = plain["name_utf8"][()].tobytes(), plain["name_offsets"][()]
    assert [joined[a:b].decode() for a, b in itertools.pairwise(offsets)] == texts


@in_one_folder
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_columns_come_back_as_they_were(tmp_path: Path, values: list[int]) -> None:
    path = written(tmp_path / "a.h5", column_datasets("n", np.array(values, dtype=np.int64)))

    with Hdf5File(path) as file:
        assert file.column("n").tolist() == values


def chunked(file: h5py.File) -> None:
    file.create_dataset("x", data=COLUMN, chunks=(2,))


def compressed(file: h5py.File) -> None:
    file.create_dataset("x", data=COLUMN, compression="gzip")


def checksummed(file: h5py.File) -> None:
    file.create_dataset("x", data=COLUMN, fletcher32=True)


def in_another_file(file: h5py.File) -> None:
    raw = Path(file.filename).with_name("raw")
    raw.write_bytes(COLUMN.tobytes())
    file.create_dataset("x", COLUMN.shape, COLUMN.dtype, external=[(str(raw), 0, COLUMN.nbytes)])


def external_link(file: h5py.File) -> None:
    other = written(Path(file.filename).with_name("other.h5"), column_datasets("x", COLUMN))
    file["x"] = h5py.ExternalLink(str(other), "/x")


def soft_link(file: h5py.File) -> None:
    file["real"] = COLUMN
    file["x"] = h5py.SoftLink("/real")


def virtual(file: h5py.File) -> None:
    other = written(Path(file.filename).with_name("other.h5"), column_datasets("x", COLUMN))
    layout = h5py.VirtualLayout(COLUMN.shape, COLUMN.dtype)
    layout[:] = h5py.VirtualSource(str(other), "x", COLUMN.shape)
    file.create_virtual_dataset("x", layout)


def compact(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(COLUMN.shape)
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT64, space, plist).write(
        h5py.h5s.ALL, h5py.h5s.ALL, COLUMN
    )


def never_written(file: h5py.File) -> None:
    file.create_dataset("x", COLUMN.shape, COLUMN.dtype)


def other_byte_order(file: h5py.File) -> None:
    file["x"] = COLUMN.astype(COLUMN.dtype.newbyteorder())


def booleans(file: h5py.File) -> None:
    file["x"] = COLUMN.astype(bool)


def compound(file: h5py.File) -> None:
    file["x"] = np.zeros(COLUMN.shape, dtype=[("a", np.int32), ("b", np.int32)])


def variable_strings(file: h5py.File) -> None:
    file.create_dataset("x", data=["a", "b", "c", "d"], dtype=h5py.string_dtype())


def fixed_strings(file: h5py.File) -> None:
    file["x"] = np.array([b"a", b"b", b"c", b"d"])


NOT_PLAIN = [
    chunked, compressed, checksummed, in_another_file, virtual, compact, never_written,
    other_byte_order, booleans, compound, variable_strings, fixed_strings,
]  # fmt: skip


@pytest.mark.parametrize(
    ("write", "message"),
    [
        *((write, "'x' is not plain contiguous numbers") for write in NOT_PLAIN),
        (external_link, "'x' is missing or is a link"),
        (soft_link, "'x' is missing or is a link"),
        (lambda file: None, "'x' is missing or is a link"),
        (lambda file: file.create_group("x"), "'x' is not a dataset"),
        (lambda file: file.create_dataset("x", data=h5py.Empty("i8")), "'x' "),
        (lambda file: file.create_dataset("x", data=COLUMN[:3]), r"int64 \(3,\).*needs .*\(4,\)"),
        (lambda file: file.create_dataset("x", data=COLUMN[None]), r"int64 \(1, 4\).*needs"),
        (lambda file: file.create_dataset("x", data=COLUMN.astype("u8")), "uint64 .*needs int64"),
        (lambda file: file.create_dataset("x", data=COLUMN.astype("f8")), "float64 .*needs int64"),
    ],
)
def test_a_dataset_that_we_would_not_write_is_refused(
    write: Callable[[h5py.File], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        write(file)

    with Hdf5File(path) as file:
        for read in (file.array, file.extent):
            with pytest.raises(CacheDamagedError, match=f"^{re.escape(str(path))}: .*{message}"):
                read("x", COLUMN.shape, INT64)
        with pytest.raises(CacheDamagedError, match=f"^{re.escape(str(path))}: "):
            file.column("x")


def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    data = bytearray(hdf5_bytes({"x": COLUMN}))
    claimed = 2**40  # eight terabytes
    for old, new in ((4, claimed), (4 * 8, claimed * 8)):  # rows and bytes, in the object header
        place = data.index(np.int64(old).tobytes(), 700)
        data[place : place + 8] = np.int64(new).tobytes()
        while (place := data.find(np.int64(old).tobytes(), place)) >= 0:
            data[place : place + 8] = np.int64(new).tobytes()
    (tmp_path / "a.h5").write_bytes(data)

    with Hdf5File(tmp_path / "a.h5") as file:
        with pytest.raises(CacheDamagedError, match="'x'"):
            file.array("x", (claimed,), INT64)
        with pytest.raises(CacheDamagedError, match="'x'"):
            file.column("x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable HDF5 file"),
        (b"\x89PNG\r\n" * 900, "not a readable HDF5 file"),
        (hdf5_bytes({"x": ROWS})[:-1], "not a readable HDF5 file .*truncated"),
    ],
)
def test_a_file_that_is_no_whole_hdf5_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(data)

    with pytest.raises(CacheDamagedError, match=message):
        Hdf5File(tmp_path / "a.h5")
    with pytest.raises(CacheDamagedError, match="not a readable HDF5 file"):
        Hdf5File(tmp_path)
    with pytest.raises(CacheDamagedError, match="not a readable HDF5 file"):
        Hdf5File(tmp_path / "absent.h5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (column_datasets("t_offsets", np.array([0, 1, 4])), "offsets do not fit"),
        (column_datasets("t_offsets", np.array([1, 2, 3])), "offsets do not fit"),
        (column_datasets("t_offsets", np.array([0, 4, 2, 3])), "offsets do not fit"),
        (column_datasets("t_offsets", COLUMN[:0]), "offsets do not fit"),
        (column_datasets("t_offsets", np.array([0.0, 3.0])), "float64 .*needs int64"),
        (column_datasets("t_utf8", np.frombuffer(b"a\xff\xfe", np.uint8)), "is not UTF-8"),
        (column_datasets("t_utf8", np.array([1, 2, 3])), "int64 .*needs uint8"),
        ({"t_utf8": np.frombuffer(b"axc", np.uint8)}, "'t_utf8' differs from its digest"),
        ({"t_offsets": np.array([0, 2, 3])}, "'t_offsets' differs from its digest"),
        ({"t_utf8_xxh3": COLUMN[:1]}, "int64 .*needs uint64"),
    ],
)
def test_text_that_does_not_fit_together_is_refused(
    changes: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    whole = text_datasets("t", ["a", "bc"])
    path = written(tmp_path / "a.h5", {**whole, **changes})

    with Hdf5File(path) as file, pytest.raises(CacheDamagedError, match=message):
        file.texts("t")


def test_no_flipped_bit_is_read_as_something_else(tmp_path: Path) -> None:
    """One bit of every byte that is not a filler, of structures as of data."""
    rows = np.arange(2 * 3 * 5, dtype=np.float16).reshape(2, 3, 5) + 1
    digests = [row_digest(row) for row in rows]
    datasets = {"rows": rows, "rows_xxh3": np.array(digests, dtype=np.uint64)}
    data = hdf5_bytes({**datasets, **text_datasets("id", ["a", "bcd", "é"])})
    places = [i for i, byte in enumerate(data) if byte]
    path = tmp_path / "a.h5"
    seen = {"refused": 0, "row": 0, "same": 0}
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            with Hdf5File(path) as file:
                extent = file.extent("rows", rows.shape, FLOAT16)
                stored = file.array("rows_xxh3", (2,), np.dtype(np.uint64))
                texts = file.texts("id")
        except CacheDamagedError:
            seen["refused"] += 1
            continue
        found = np.memmap(path, FLOAT16, mode="r", offset=extent.offset, shape=extent.shape)
        good = [row_digest(np.asarray(row)) == one for row, one in zip(found, stored, strict=True)]
        np.testing.assert_array_equal(found[good], rows[good])
        assert texts == ["a", "bcd", "é"]
        seen["same" if all(good) else "row"] += 1
    assert min(seen.values()) > 20, seen
