"""Bytes that were changed on purpose, to lead a reader astray, are refused by name."""

import struct
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.hdf5 import hdf5_bytes
from tests.support.layouts import (
    COLUMN,
    ROWS,
    UNDEFINED,
    address_of,
    attributes,
    external_link,
    holes,
    layout_of,
    made,
    patched,
    u64,
)


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
