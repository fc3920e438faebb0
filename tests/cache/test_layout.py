"""What plain h5py wrote is found where h5py says; all else is refused, at once, unopened."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.hdf5 import hdf5_bytes
from frozen_vqa.cache.layout import Extent
from tests.support.layouts import (
    COLUMN,
    ROWS,
    attributes,
    every_dtype,
    external_link,
    holes,
    layout_of,
    made,
)
from tests.support.repository import ROOT


def seen_by_h5py(path: Path) -> dict[str, Extent]:
    with h5py.File(path) as file:
        return {
            name: Extent(dataset.id.get_offset() or 0, dataset.shape, dataset.dtype)
            for name, dataset in file.items()
        }


# ---------------------------------------------------------------- what is read


def many_names(file: h5py.File) -> None:
    for number in range(64):
        file[f"{number * 37 % 64}".ljust(4 * number, "_")] = np.arange(number, dtype=np.int16)
    file.move("12".ljust(4 * 28, "_"), "n" * 255)


def shapes(file: h5py.File) -> None:
    for shape in ((1,), (2, 1, 3, 1, 2), (5000,), (0,), (0, 7), (3, 0, 2**40)):
        file.create_dataset(str(shape), shape, np.float32, data=np.zeros(shape, np.float32))


def settings_of_a_dataset(file: h5py.File) -> None:
    file.create_dataset("times", data=COLUMN, track_times=True)
    file.create_dataset("fill", data=COLUMN, fillvalue=3)
    file.create_dataset("filled", (5,), np.int32, fillvalue=3)[2] = 1


PLAIN = [
    every_dtype, many_names, shapes, attributes, settings_of_a_dataset, holes, lambda file: None,
]  # fmt: skip


@pytest.mark.parametrize("write", PLAIN)
def test_the_layout_is_the_one_that_h5py_sees(
    write: Callable[[h5py.File], object], tmp_path: Path
) -> None:
    data = made(write, tmp_path / "a.h5")

    found = layout_of(data)
    assert found == seen_by_h5py(tmp_path / "a.h5")
    assert list(found) == sorted(found)


def test_a_file_that_was_written_twice_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    made(attributes, path)
    with h5py.File(path, "r+") as file:
        del file["x"]
        file["z"] = ROWS
        file["y"][0] = 5

    assert layout_of(path.read_bytes()) == seen_by_h5py(path)


def test_the_layout_of_our_own_bytes_is_the_one_that_h5py_sees(tmp_path: Path) -> None:
    data = hdf5_bytes({"rows": np.tile(ROWS, (50, 1, 1)), "none": ROWS[:0], "column": COLUMN})
    (tmp_path / "a.h5").write_bytes(data)

    found = layout_of(data)
    assert found == seen_by_h5py(tmp_path / "a.h5")
    assert found["rows"] == Extent(found["rows"].offset, (150, 4, 5), np.dtype(np.float16))
    assert (found["rows"].nbytes, found["none"].nbytes, found["column"].nbytes) == (6000, 0, 32)
    assert found["none"].offset == 0


# ---------------------------------------------------------------- what is refused


def with_type(datatype: h5py.h5t.TypeID) -> Callable[[h5py.File], object]:
    """Return a writer of a dataset of a type that numpy does not have."""

    def write(file: h5py.File) -> None:
        space = h5py.h5s.create_simple((4,))
        dataset = h5py.h5d.create(file.id, b"x", datatype, space)
        numbers = np.zeros(4 * datatype.get_size(), np.uint8)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers, mtype=datatype)

    return write


def bfloat16() -> h5py.h5t.TypeID:
    datatype = h5py.h5t.IEEE_F32LE.copy()
    datatype.set_fields(15, 7, 8, 0, 7)
    datatype.set_size(2)
    datatype.set_precision(16)
    return datatype


def twelve_bits() -> h5py.h5t.TypeID:
    datatype = h5py.h5t.STD_I16LE.copy()
    datatype.set_precision(12)
    return datatype


def bits() -> h5py.h5t.TypeID:
    return h5py.h5t.STD_B16LE.copy()


def in_another_file(file: h5py.File) -> None:
    raw = Path(file.filename).with_name("raw")
    raw.write_bytes(COLUMN.tobytes())
    file.create_dataset("x", COLUMN.shape, COLUMN.dtype, external=[(str(raw), 0, COLUMN.nbytes)])


def virtual(file: h5py.File) -> None:
    source = Path(file.filename).with_name("other.h5")
    source.write_bytes(hdf5_bytes({"x": COLUMN}))
    layout = h5py.VirtualLayout(COLUMN.shape, COLUMN.dtype)
    layout[:] = h5py.VirtualSource(str(source), "x", COLUMN.shape)
    file.create_virtual_dataset("x", layout)


def many_external_links(file: h5py.File) -> None:
    for number in range(20):
        file[str(number)] = h5py.ExternalLink("other.h5", "/x")


def compact(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(COLUMN.shape)
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT64, space, plist).write(
        h5py.h5s.ALL, h5py.h5s.ALL, COLUMN
    )


def two_names(file: h5py.File) -> None:
    file["x"] = COLUMN
    file["y"] = file["x"]


def committed(file: h5py.File) -> None:
    file["type"] = np.dtype(np.int32)
    file.create_dataset("x", data=COLUMN, dtype=file["type"])


def committed_and_forgotten(file: h5py.File) -> None:
    committed(file)
    del file["type"]


def more_than_64(file: h5py.File) -> None:
    for number in range(100):
        file[str(number)] = COLUMN


def more_than_256_messages(file: h5py.File) -> None:
    file["x"] = COLUMN
    for number in range(300):
        file["x"].attrs[str(number)] = number


def dataset(**settings: object) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset("x", **{"data": COLUMN} | settings)


def element(dtype: object) -> Callable[[h5py.File], object]:
    return dataset(data=np.zeros(4, dtype=dtype))


def references(file: h5py.File) -> None:
    file.create_dataset("x", data=[file.ref] * 4, dtype=h5py.ref_dtype)


def commented(file: h5py.File) -> None:
    file["x"] = COLUMN
    h5py.h5o.set_comment(file["x"].id, b"hello")


VARIABLE = np.array([COLUMN, COLUMN[:1]], dtype=object)
ATTACKS = [
    (dataset(chunks=(2,)), "'x' is chunked"),
    (dataset(maxshape=(None,)), "'x' is chunked"),
    (dataset(compression="gzip"), r"'x' is stored through filters \(ids 1\)"),
    (dataset(compression="lzf"), r"'x' is stored through filters \(ids 32000\)"),
    (dataset(fletcher32=True), r"'x' is stored through filters \(ids 3\)"),
    (dataset(compression="gzip", shuffle=True, fletcher32=True), r"filters \(ids 2, 1, 3\)"),
    (dataset(scaleoffset=0), r"'x' is stored through filters \(ids 6\)"),
    (dataset(data=None, shape=(4,), dtype="f4"), "'x' was never written"),
    (dataset(data=None, shape=(2**40, 2**20), dtype="f4"), "'x' was never written"),
    (compact, "'x' is compact"),
    (virtual, "'x' is virtual"),
    (in_another_file, r"'x' keeps its numbers in other files \(external storage\)"),
    (external_link, "the root group has an external link 'x'"),
    (many_external_links, "the root group keeps its links in a newer form"),
    (lambda file: file.__setitem__("x", h5py.SoftLink("/y")), "'x' is a soft link"),
    (lambda file: file.create_group("x"), "'x' is a group"),
    (lambda file: file.create_group("x", track_order=True), "'x' has an object header of version"),
    (lambda file: file.__setitem__("x", file["/"]), "'x' is a group"),
    (two_names, "'y' overlaps dataset 'x'"),
    (committed, "'type' is no dataset: .*0x01, 0x08"),
    (committed_and_forgotten, r"'x' shares .*\(a committed datatype\)"),
    (commented, "'x' has a header message of unknown type 0x0d"),
    (dataset(track_order=True), "'x' has an object header of version 2"),
    (lambda file: file.__setitem__("n" * 256, COLUMN), "the heap of names has no name of 1 to 255"),
    (more_than_64, "more than 64 datasets"),
    (more_than_256_messages, "'x' has more than 256 header messages"),
    (dataset(data=3.0), "'x' is a single number"),
    (dataset(data=h5py.Empty("i8")), r"'x' is empty \(a null dataspace\)"),
    (element(">i8"), "'x' is big-endian integers"),
    (element(">f4"), "'x' is big-endian floats"),
    (element(np.longdouble), r"'x' is unusual \(datatype 11.*\) floats"),
    (with_type(bfloat16()), r"'x' is unusual \(datatype 11.*\) floats"),
    (with_type(twelve_bits()), r"'x' is unusual \(datatype 10.*\) integers"),
    (with_type(h5py.h5t.UNIX_D32LE), "'x' has elements that are times"),
    (with_type(bits()), "'x' has elements that are bit fields"),
    (element("S3"), "'x' has elements that are strings"),
    (element("V3"), "'x' has elements that are opaque bytes"),
    (element([("a", "i4"), ("b", "i4")]), "'x' has elements that are compounds"),
    (element(np.complex64), "'x' has elements that are (compounds|complex numbers)"),
    (references, "'x' has elements that are references"),
    (element(bool), "'x' has elements that are an enumeration"),
    (dataset(data=["a", "b"]), "'x' has elements that are of variable length"),
    (dataset(data=VARIABLE, dtype=h5py.vlen_dtype(np.int64)), "that are of variable length"),
    (
        with_type(h5py.h5t.array_create(h5py.h5t.STD_I32LE, (2,))),
        "'x' has elements that are arrays",
    ),
    (lambda file: file.__setitem__("ü", COLUMN), "the root group has a hard link 'ü'"),
]


@pytest.mark.parametrize(("write", "message"), ATTACKS)
def test_what_we_would_not_write_is_refused_by_name(
    write: Callable[[h5py.File], object], message: str, tmp_path: Path
) -> None:
    data = made(write, tmp_path / "a.h5")

    with pytest.raises(CacheDamagedError, match=f"^a.h5: .*{message}"):
        layout_of(data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"libver": "latest"}, "the superblock has version 3"),
        ({"libver": "v108"}, "the superblock has version 2"),
        ({"userblock_size": 512}, "not an HDF5 file"),
        ({"track_order": True}, "the root group has an object header of version 2"),
        ({"fs_strategy": "page"}, "the superblock has version"),
    ],
)
def test_a_file_in_another_form_is_refused(
    settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    data = made(dataset(), tmp_path / "a.h5", **settings)

    with pytest.raises(CacheDamagedError, match=f"^a.h5: {message}"):
        layout_of(data)


WATCH = """
import sys
opened = []
from pathlib import Path
from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.hdf5 import Hdf5File
from frozen_vqa.cache.layout import read_layout
data = [Path(name).read_bytes() for name in sys.argv[1:]]
sys.addaudithook(lambda event, details: opened.append(event) if event in WATCHED else None)
for one in data:
    try:
        print(*Hdf5File(Path("a.h5"), one).layout)
    except CacheDamagedError as error:
        print("refused")
print(opened, "h5py" in sys.modules)
""".replace("WATCHED", '("open", "os.open", "import", "mmap.__new__", "socket.connect")')


def test_reading_opens_nothing_and_does_not_load_libhdf5(tmp_path: Path) -> None:
    """With files that make libhdf5 read others."""
    writers = [dataset(), external_link, in_another_file, virtual]
    paths = [tmp_path / f"{number}.h5" for number in range(len(writers))]
    for write, path in zip(writers, paths, strict=True):
        made(write, path)

    out = subprocess.run(
        [sys.executable, "-c", WATCH, *paths], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.split("\n") == ["x", *["refused"] * 3, "[] False", ""]
