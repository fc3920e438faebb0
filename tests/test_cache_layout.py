"""What plain h5py wrote is found where h5py says; all else is refused, at once, unopened."""

import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache.errors import CacheDamagedError
from cache.hdf5 import hdf5_bytes
from cache.layout import Extent, read_layout
from cache.layout_messages import Block, FileBytes

ROOT = Path(__file__).parents[1]
COLUMN = np.array([7, -1, 2**40, 0], dtype=np.int64)
ROWS = np.arange(3 * 4 * 5, dtype=np.float16).reshape(3, 4, 5)
UNDEFINED = b"\xff" * 8


def layout_of(data: bytes) -> dict[str, Extent]:
    return read_layout(memoryview(data), "a.h5")


def seen_by_h5py(path: Path) -> dict[str, Extent]:
    with h5py.File(path) as file:
        return {
            name: Extent(dataset.id.get_offset() or 0, dataset.shape, dataset.dtype)
            for name, dataset in file.items()
        }


def made(write: Callable[[h5py.File], object], path: Path, **settings: object) -> bytes:
    with h5py.File(path, "w", **settings) as file:
        write(file)
    return path.read_bytes()


def address_of(data: bytes, name: str, path: Path) -> int:
    """Return where the header of a dataset lies."""
    path.write_bytes(data)
    with h5py.File(path) as file:
        return h5py.h5o.get_info(file[name].id).addr


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    new = bytearray(data)
    for place, part in changes:
        new[place : place + len(part)] = part
    return bytes(new)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


# ---------------------------------------------------------------- what is read


def every_dtype(file: h5py.File) -> None:
    for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
        file[code] = np.arange(6).reshape(2, 3).astype(code)


def many_names(file: h5py.File) -> None:
    for number in range(64):
        file[f"{number * 37 % 64}".ljust(4 * number, "_")] = np.arange(number, dtype=np.int16)
    file.move("12".ljust(4 * 28, "_"), "n" * 255)


def shapes(file: h5py.File) -> None:
    for shape in ((1,), (2, 1, 3, 1, 2), (5000,), (0,), (0, 7), (3, 0, 2**40)):
        file.create_dataset(str(shape), shape, np.float32, data=np.zeros(shape, np.float32))


def attributes(file: h5py.File) -> None:
    """So many that headers continue elsewhere, and of variable length, which we never follow."""
    file.attrs["made by"] = "somebody"
    file["x"], file["y"] = COLUMN, ROWS
    for number in range(40):
        file["x"].attrs[str(number)] = ["text"] * number
        file["y"].attrs[str(number)] = ROWS
        file["y"].attrs["changed"] = number


def settings_of_a_dataset(file: h5py.File) -> None:
    file.create_dataset("times", data=COLUMN, track_times=True)
    file.create_dataset("fill", data=COLUMN, fillvalue=3)
    file.create_dataset("filled", (5,), np.int32, fillvalue=3)[2] = 1


def holes(file: h5py.File) -> None:
    """A tree with levels, of which nearly all leaves have gone, and space that was freed."""
    for number in range(300):
        file[f"n{number:03}"] = np.arange(number)
    for number in range(300):
        if number % 60:
            del file[f"n{number:03}"]
    file["late"] = ROWS


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


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink(str(Path(file.filename).with_name("other.h5")), "/x")


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


def test_a_superblock_with_other_sizes_is_refused() -> None:
    data = hdf5_bytes({"x": COLUMN})
    for place in range(9, 24):  # versions, bytes of addresses and lengths, ranks of the trees
        with pytest.raises(CacheDamagedError, match="the superblock has sizes other than h5py's"):
            layout_of(patched(data, (place, bytes([data[place] ^ 4]))))
    for place in (24, 32, 48):
        with pytest.raises(CacheDamagedError, match="the superblock has a base address, free sp"):
            layout_of(patched(data, (place, bytes([data[place] ^ 4]))))
    for place in (64, 72, 80, 88):
        with pytest.raises(CacheDamagedError, match="the root group "):
            layout_of(patched(data, (place, bytes([data[place] ^ 4]))))


def test_a_link_of_a_type_that_users_define_is_refused(tmp_path: Path) -> None:
    data = made(external_link, tmp_path / "a.h5")
    place = data.index(b"\x01\x08\x40\x01x")

    for kind, message in ((65, "a link of user-defined type 65"), (1, "a soft link")):
        with pytest.raises(CacheDamagedError, match=f"the root group has {message} 'x'"):
            layout_of(patched(data, (place + 2, bytes([kind]))))


@pytest.fixture
def two(tmp_path: Path) -> tuple[bytes, int, int]:
    """A file with datasets x and y, and the bytes at which their headers begin."""
    data = hdf5_bytes({"x": COLUMN, "y": COLUMN + 1})
    x, y = (address_of(data, name, tmp_path / "two.h5") for name in "xy")
    return data, x, y


SPACE, DATATYPE, LAYOUT = 16 + 8, 16 + 8 + 24 + 8, 16 + 32 + 24 + 16 + 8
"""Where the body of each message begins in the header of an array of one axis."""


def test_forged_extents_are_refused(two: tuple[bytes, int, int]) -> None:
    data, x, y = two
    place = y + LAYOUT + 2
    offset = layout_of(data)["x"].offset
    assert data[place : place + 8] == u64(layout_of(data)["y"].offset)

    for address, message in (
        (offset, "dataset 'y' overlaps dataset 'x' at byte 2,048"),
        (offset - 31, "dataset 'y' overlaps dataset 'x' at byte 2,048"),
        (offset + 31, "dataset 'y' overlaps dataset 'x' at byte 2,079"),
        (0, "dataset 'y' overlaps the superblock at byte 0"),
        (95, "dataset 'y' overlaps the superblock at byte 95"),
        (x + 1, f"dataset 'y' overlaps dataset 'x' at byte {x + 1}"),
        (y - 31, "dataset 'y' overlaps a symbol table node at byte 1,3"),
        (len(data) - 31, "dataset 'y' lies outside the file"),
        (2**64 - 2, "dataset 'y' lies outside the file"),
        (2**64 - 1, "dataset 'y' was never written"),
    ):
        with pytest.raises(CacheDamagedError, match=message):
            layout_of(patched(data, (place, u64(address))))


def test_forged_shapes_are_refused(two: tuple[bytes, int, int]) -> None:
    data, x, _ = two
    rows, most, stored = x + SPACE + 8, x + SPACE + 16, x + LAYOUT + 10
    assert [data[p : p + 8] for p in (rows, most, stored)] == [u64(4), u64(4), u64(32)]

    for changes, message in (
        ([(rows, 3)], "has 32 bytes, but its shape .* needs 24"),
        ([(rows, 5)], "larger than its own limits"),
        ([(rows, 2**40), (most, 2**40)], "but its shape .* needs"),
        ([(rows, 2**40), (most, 2**40), (stored, 2**43)], "lies outside the file"),
        ([(rows, 2**61), (most, 2**61), (stored, 0)], "more than memory can have"),
        ([(rows, 2**64 - 1), (most, 2**64 - 1)], "more than memory can have"),
        ([(rows, 0), (stored, 0)], "has no numbers, but an address"),
    ):
        with pytest.raises(CacheDamagedError, match=f"'x' .*{message}"):
            layout_of(patched(data, *((place, u64(number)) for place, number in changes)))
    with pytest.raises(CacheDamagedError, match="'x' claims 255 dimensions"):
        layout_of(patched(data, (x + SPACE + 1, b"\xff")))
    assert layout_of(patched(data, (most, UNDEFINED))) == layout_of(data)  # may grow


def test_an_empty_shape_that_no_array_can_have_is_refused(tmp_path: Path) -> None:
    data = hdf5_bytes({"x": np.zeros((0, 2))})
    second = address_of(data, "x", tmp_path / "a.h5") + SPACE + 16
    assert data[second : second + 8] == u64(2)

    for number in (2**60, 2**64 - 1):
        with pytest.raises(CacheDamagedError, match=r"'x' claims shape .* more than memory can"):
            layout_of(patched(data, (second, u64(number)), (second + 16, UNDEFINED)))


def test_forged_messages_are_refused(two: tuple[bytes, int, int]) -> None:
    data, x, _ = two
    fill = x + LAYOUT - 16
    assert data[fill - 8] == 5

    for place, part, message in (
        (fill - 8, b"\1", "'x' has two header messages of type 0x01"),
        (fill - 8, b"\x77", "'x' has a header message of unknown type 0x77"),
        (x + SPACE - 8, b"\0", "'x' is no dataset: .* no header message of type 0x01"),
        (x + SPACE, b"\2", "'x' has a dataspace of version 2 with flags 1"),
        (x + SPACE + 2, b"\3", "'x' has a dataspace of version 1 with flags 3"),
        (x + LAYOUT, b"\2", "'x' has a layout of version 2, class 1"),
        (x + LAYOUT + 1, b"\4", "'x' has a layout of version 3, class 4"),
        (x + LAYOUT - 8, b"\x12", "'x' is no dataset: .* no header message of type 0x08"),
        (x + LAYOUT - 6, b"\xff\xff", "'x' ends after 256 bytes, before its byte"),
    ):
        with pytest.raises(CacheDamagedError, match=message):
            layout_of(patched(data, (place, part)))


@pytest.mark.parametrize("code", ["i8", "i1", "u2", "f2", "f4", "f8"])
def test_every_bit_of_a_datatype_matters(code: str, tmp_path: Path) -> None:
    """A flipped one is refused; only the sign of an integer is nothing but a bit."""
    data = hdf5_bytes({"x": np.zeros(4, code)})
    place = address_of(data, "x", tmp_path / "a.h5") + DATATYPE
    read = {}
    for bit in range(8 * (20 if code[0] == "f" else 12)):
        byte = place + bit // 8
        try:
            found = layout_of(patched(data, (byte, bytes([data[byte] ^ 1 << bit % 8]))))
        except CacheDamagedError:
            continue
        read[bit] = found["x"].dtype
    other_sign = code.translate(str.maketrans("iu", "ui"))
    assert read == ({} if code[0] == "f" else {11: np.dtype(other_sign)})


def test_two_datasets_of_one_name_are_refused(two: tuple[bytes, int, int]) -> None:
    data, *_ = two
    names = data.index(b"x\0\0\0\0\0\0\0y\0")

    with pytest.raises(CacheDamagedError, match=r"^a.h5: two datasets are named 'x'$"):
        layout_of(patched(data, (names + 8, b"x")))
    for name, message in ((b"\0", "no name of 1 to"), (b"\xff", "not ASCII")):
        with pytest.raises(CacheDamagedError, match=f"^a.h5: the heap of names has .*{message}"):
            layout_of(patched(data, (names, name)))


def test_forged_structures_and_cycles_end_at_once(
    two: tuple[bytes, int, int], tmp_path: Path
) -> None:
    data, x, _ = two
    tree = data.index(b"TREE")
    levels = made(holes, tmp_path / "a.h5")
    child = levels.index(b"TREE\0\0")
    continued = made(attributes, tmp_path / "a.h5")
    header = address_of(continued, "y", tmp_path / "a.h5")
    link = continued.index(struct.pack("<HHI", 0x10, 16, 0), header) + 8
    for forged, message in (
        (
            patched(data, (tree + 5, b"\1"), (tree + 32, u64(tree))),
            "a node of the tree .* overlaps",
        ),
        (patched(data, (tree + 5, b"\xff"), (tree + 32, u64(0))), "a node .* overlaps the superbl"),
        (patched(data, (tree + 6, b"\2\0"), (tree + 48, data[tree + 32 : tree + 40])), "overlaps"),
        (patched(continued, (link, u64(header))), "dataset 'y' overlaps dataset 'y'"),
        (patched(data, (tree + 6, b"\x21\0")), "a node of the tree of names is not whole"),
        (patched(data, (tree, b"X")), "a node of the tree of names is not whole"),
        (patched(data, (tree + 4, b"\1")), "a node of the tree of names is not whole"),
        (patched(levels, (child + 5, b"\1")), "a node of the tree of names is not whole"),
        (patched(data, (data.index(b"SNOD"), b"X")), "a symbol table node is not whole"),
        (patched(data, (data.index(b"SNOD") + 4, b"\2")), "a symbol table node is not whole"),
        (patched(data, (data.index(b"SNOD") + 6, b"\x09")), "a symbol table node is not whole"),
        (patched(data, (data.index(b"HEAP"), b"X")), "the heap of names does not begin"),
        (patched(data, (x, b"\0")), "'x' has no object header"),
        (patched(data, (x + 2, b"\x09")), "'x' has 5 header messages, but its header says 9"),
    ):
        with pytest.raises(CacheDamagedError, match=message):
            layout_of(forged)


def test_a_forest_of_empty_nodes_is_not_walked_to_its_end() -> None:
    """Two thousand whole nodes, each with one child, are more structure than any shard has."""
    size, nodes = 24 + 65 * 8, 2000
    data = bytearray(hdf5_bytes({}))
    first = len(data)
    for number in range(nodes):
        level = 2 if number == 0 else 1 if number <= 32 else 0
        used, child = (32 if level else 0), first + size * (1 + 32 * number)
        children = b"".join(u64(0) + u64(child + i * size) for i in range(used))
        node = b"TREE\0" + struct.pack("<BH", level, used) + UNDEFINED * 2 + children
        data += node.ljust(size, b"\0")
    data[40:48] = u64(len(data))
    root = data.index(u64(data.index(b"TREE")), 100)
    for place in (80, root):
        data[place : place + 8] = u64(first)

    with pytest.raises(CacheDamagedError, match=r"^a.h5: more than 1,000 blocks of structure$"):
        layout_of(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an HDF5 file"),
        (b"\x89PNG\r\n" * 900, "not an HDF5 file"),
        (hdf5_bytes({"x": ROWS})[:20], "the superblock ends after 20 bytes"),
        (hdf5_bytes({"x": ROWS})[:-1], r"truncated or extended: 2,167 bytes, .* says 2,168"),
        (hdf5_bytes({"x": ROWS}) + b"\0", r"truncated or extended: 2,169 bytes, .* says 2,168"),
    ],
)
def test_a_file_that_is_no_whole_hdf5_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CacheDamagedError, match=f"^a.h5: {message}"):
        layout_of(data)


WATCH = """
import sys
opened = []
from pathlib import Path
from cache.errors import CacheDamagedError
from cache.hdf5 import Hdf5File
from cache.layout import read_layout
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


# ---------------------------------------------------------------- damage


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often a block was given out, or part of one, since the list was cleared."""
    counted: list[int] = []
    for owner, name in ((FileBytes, "block"), (Block, "part"), (Block, "text")):
        whole = getattr(owner, name)

        def counting(*args: object, whole: Callable = whole) -> object:
            counted.append(1)
            return whole(*args)

        monkeypatch.setattr(owner, name, counting)
    return counted


def outcome(data: bytes, steps: list[int]) -> str:
    """Read a damaged file; what comes back must be ours or inside it, and soon."""
    steps.clear()
    try:
        found = layout_of(data)
    except CacheDamagedError:
        return "refused"
    finally:
        assert len(steps) < 2_000
    ends = 96
    for start, size in sorted((e.offset, e.nbytes) for e in found.values() if e.nbytes):
        assert ends <= start
        ends = start + size
    assert ends <= len(data)
    for extent in found.values():
        np.ndarray(extent.shape, extent.dtype, data, extent.offset)  # numpy checks it once more
    return "read"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Ours, and one by plain h5py with attributes, continuation blocks and several leaves."""

    def both(file: h5py.File) -> None:
        attributes(file)
        every_dtype(file)

    ours = hdf5_bytes({"rows": ROWS, "none": ROWS[:0], "column": COLUMN})
    return [ours, made(both, tmp_path_factory.mktemp("samples") / "a.h5")]


def test_each_flipped_bit_is_refused_or_harmless(samples: list[bytes], steps: list[int]) -> None:
    """Every bit of every byte that is not a filler."""
    data = samples[0]
    whole = layout_of(data)
    seen = {"refused": 0, "read": 0}
    for place in (place for place, byte in enumerate(data) if byte):
        for bit in range(8):
            seen[outcome(patched(data, (place, bytes([data[place] ^ 1 << bit]))), steps)] += 1
    assert min(seen.values()) > 300, seen
    for name, extent in whole.items():  # the numbers themselves are the digests' matter
        for place in range(extent.offset, extent.offset + extent.nbytes):
            assert layout_of(patched(data, (place, b"\x55"))) == whole, name


def test_random_damage_is_refused_or_harmless(samples: list[bytes], steps: list[int]) -> None:
    """3,000 times: noise, and words that lead elsewhere in the file or far outside."""
    rng = random.Random(3)
    seen = {"refused": 0, "read": 0}
    for data in samples:
        structure = [place & ~7 for place in range(len(data) - 24) if data[place]]
        known = [m.start() for m in re.finditer(b"TREE|SNOD|HEAP|\x01\x00[\x03-\x20]\x00", data)]
        words = [0, 1, 8, 2**63, 2**64 - 1, len(data), len(data) - 8, *known]
        for _ in range(1500):
            changes = []
            for _ in range(rng.randint(1, 4)):
                noise = rng.randbytes(rng.randint(1, 24))
                changes.append((rng.choice(structure), rng.choice([noise, u64(rng.choice(words))])))
            seen[outcome(patched(data, *changes), steps)] += 1
    assert min(seen.values()) > 100, seen


def test_a_file_cut_anywhere_is_refused(samples: list[bytes], steps: list[int]) -> None:
    """Also where the header was made to agree with the cut."""
    rng = random.Random(4)
    for data in samples:
        for length in [*range(120), *rng.sample(range(len(data)), 400)]:
            assert outcome(data[:length], steps) == "refused"
            mended = patched(data, (40, u64(length)))[:length]
            assert outcome(mended, steps) == "refused"
