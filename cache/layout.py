"""Where the numbers of a shard lie, found without a line of libhdf5.

libhdf5 has hung and crashed on damaged files, and follows links and storage into other files. So
what it wrote is read here, in bounds-checked Python, and only the small part of HDF5 that h5py
writes for plain arrays by default is accepted:

    superblock 0 ─ root group ─ tree ─ symbol table nodes ─ object header ─ contiguous numbers
                             └─ heap of names

Source: the HDF5 File Format Specification, version 3.0; docstrings name its sections.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache.layout_messages import (
    DATASPACE,
    DATATYPE,
    LAYOUT,
    SYMBOL_TABLE,
    UNDEFINED,
    Block,
    FileBytes,
    bodies,
    dtype_of,
    object_header,
    refuse_newer_links,
    shape_of,
    storage_of,
)

MOST_DATASETS = 64
SIGNATURE = b"\x89HDF\r\n\x1a\n"
SIZES = bytes.fromhex("00000000 00080800 04001000 00000000")
"""Of h5py: all versions 0, addresses and lengths of 8 bytes, ranks 4 and 16 of the trees."""

LEAF_RANK, TREE_RANK = 4, 16
ENTRY = 40
SYMBOL_TYPES = {1: "a group", 2: "a soft link"}


@dataclass(frozen=True)
class Extent:
    """Where the numbers of one dataset lie in their file.

    Attributes:
        offset: Byte at which the first number begins; 0 if there is none.
        shape: (rows, ...).
        dtype: Of one number.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes from the first number to the last."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_layout(data: memoryview, where: str) -> dict[str, Extent]:
    """Return where each dataset of a file lies.

    Every structure and every extent lies inside the file, and no two overlap. What work a file
    can cause is bounded: 64 datasets, 1,000 blocks, 256 messages a header.

    Args:
        data: All bytes of the file.
        where: Name of the file, for messages.

    Raises:
        CacheDamagedError: if anything there is not what h5py writes for plain arrays of integers
            or floats; the message names it.
    """
    file = FileBytes(data, where)
    tree, heap = _root_group(file)
    names = _names(file, heap)
    found: dict[str, Extent] = {}
    for entry in _entries(file, tree):
        name = names.text(entry.number(0))
        if name in found:
            raise file.damaged(f"two datasets are named {name!r}")
        if len(found) == MOST_DATASETS:
            raise file.damaged(f"more than {MOST_DATASETS} datasets")
        found[name] = _extent(file, name, entry)
    return found


def _root_group(file: FileBytes) -> tuple[int, int]:
    """Return the addresses of the root group's tree and of its heap of names.

    Source: "Disk Format: Level 0A - Format Signature and Superblock", "The Symbol Table Message".
    """
    superblock = file.block(0, min(96, len(file)), "the superblock")
    if bytes(superblock.data[:8]) != SIGNATURE:
        raise file.damaged("not an HDF5 file (its first bytes are not HDF5's signature)")
    if version := superblock.number(8, 1):
        raise superblock.refused(f"has version {version} (that of a newer libver)")
    if superblock.read(8, 16) != SIZES:
        raise superblock.refused(f"has sizes other than h5py's ({superblock.read(8, 16).hex()})")
    base, free, end, driver = (superblock.number(24 + 8 * i) for i in range(4))
    if (base, free, driver) != (0, UNDEFINED, UNDEFINED):
        raise superblock.refused("has a base address, free space or a driver")
    if end != len(file):
        raise file.damaged(f"truncated or extended: {len(file):,} bytes, its header says {end:,}")
    root = Block(file, superblock.part(56, ENTRY).data, "the root group")
    header = object_header(file, root.number(8), root.what)
    refuse_newer_links(header, root)
    (table,) = bodies(header, [SYMBOL_TABLE], root)
    tree_and_heap = table.number(0), table.number(8)
    if (1, *tree_and_heap) != (root.number(16, 4), root.number(24), root.number(32)):
        raise root.damaged("has a symbol table other than the one that the superblock names")
    return tree_and_heap


def _names(file: FileBytes, address: int) -> Block:
    """Return the heap that holds the names. Source: "Disk Format: Level 1D - Local Heaps"."""
    heap = file.block(address, 32, "the heap of names")
    if heap.read(0, 8) != b"HEAP\0\0\0\0":
        raise heap.damaged(f"does not begin at byte {address:,}")
    return file.block(heap.number(24), heap.number(8), heap.what)


def _entries(file: FileBytes, tree: int) -> Iterator[Block]:
    """Yield every entry of the symbol table.

    Source: "Disk Format: Level 1B - Group Symbol Table Nodes".
    """
    for address in _leaves(file, tree):
        node = file.block(address, 8 + 2 * LEAF_RANK * ENTRY, "a symbol table node")
        used = node.number(6, 2)
        if node.read(0, 6) != b"SNOD\1\0" or used > 2 * LEAF_RANK:
            raise node.damaged(f"is not whole at byte {address:,}")
        for place in range(used):
            yield node.part(8 + place * ENTRY, ENTRY)


def _leaves(file: FileBytes, root: int) -> list[int]:
    """Return the addresses of the symbol table nodes, walking down the tree level by level.

    Source: "Disk Format: Level 1A1 - Version 1 B-trees".
    """
    addresses, level = [root], None
    while True:
        children = []
        for address in addresses:
            node = file.block(address, 24 + (4 * TREE_RANK + 1) * 8, "a node of the tree of names")
            level = node.number(5, 1) if level is None else level
            used = node.number(6, 2)
            if node.read(0, 6) != b"TREE\0" + bytes([level]) or used > 2 * TREE_RANK:
                raise node.damaged(f"is not whole at byte {address:,}")
            children += [node.number(32 + 16 * place) for place in range(used)]
        if not level:
            return children
        addresses, level = children, level - 1


def _extent(file: FileBytes, name: str, entry: Block) -> Extent:
    """Return where a dataset lies. Source: "Disk Format: Level 1C - Symbol Table Entry"."""
    what = f"dataset {name!r}"
    dataset = Block(file, entry.data, what)
    if kind := dataset.number(16, 4):
        raise dataset.refused(f"is {SYMBOL_TYPES.get(kind, f'a link of unknown type {kind}')}")
    header = object_header(file, dataset.number(8), what)
    space, datatype, layout = bodies(header, [DATASPACE, DATATYPE, LAYOUT], dataset)
    (address, stored), dtype, shape = storage_of(layout), dtype_of(datatype), shape_of(space)
    if math.prod(size or 1 for size in shape) * dtype.itemsize >= 2**63:
        raise dataset.damaged(f"claims shape {shape}, more than memory can have")
    needed = math.prod(shape) * dtype.itemsize
    if needed != stored:
        raise dataset.damaged(f"has {stored:,} bytes, but its shape {shape} needs {needed:,}")
    if needed == 0:
        if address != UNDEFINED:
            raise dataset.damaged(f"has no numbers, but an address ({address:,})")
        return Extent(0, shape, dtype)
    if address == UNDEFINED:
        raise dataset.refused("was never written")
    file.block(address, needed, what)
    return Extent(address, shape, dtype)
