"""Blocks of an HDF5 file, the header of one object, and the messages in it that say what it is.

Source: the HDF5 File Format Specification, version 3.0; docstrings name its sections. All numbers
are little-endian and unsigned.
"""

import struct
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache.errors import CacheDamagedError

UNDEFINED = 2**64 - 1
"""The address of what is not stored."""

DATASPACE, DATATYPE, LINK, EXTERNAL, LAYOUT = 0x01, 0x03, 0x06, 0x07, 0x08
FILTERS, CONTINUATION, SYMBOL_TABLE = 0x0B, 0x10, 0x11
NEWER_LINKS = {0x02, LINK, 0x0A}
SAYS_NOTHING = {0x00, 0x04, 0x05, 0x0C, 0x0E, CONTINUATION, 0x12}
"""Nothing about where numbers lie: unused space, fill values, attributes, times of change."""

SHARED = 0b10
LINK_TYPES = {0: "a hard link", 1: "a soft link", 64: "an external link"}
LAYOUT_CLASSES = {0: "compact", 2: "chunked", 3: "virtual"}
DATATYPE_CLASSES = (
    *("integers", "floats", "times", "strings", "bit fields", "opaque bytes", "compounds"),
    *("references", "an enumeration (as h5py stores booleans)", "of variable length", "arrays"),
    "complex numbers",
)
MOST_BLOCKS, MOST_MESSAGES, LONGEST_NAME = 1_000, 256, 255
MOST_DIMENSIONS = MOST_FILTERS = 32  # of HDF5 itself


class FileBytes:
    """The bytes of one file, given out in blocks of which no two overlap.

    That no byte has two meanings ends every cycle, and keeps one dataset out of another.

    Args:
        data: Of the whole file.
        where: How messages name it.
    """

    def __init__(self, data: memoryview, where: str) -> None:
        self._data = data
        self._where = where
        self._given: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        return len(self._data)

    def damaged(self, found: str) -> CacheDamagedError:
        return CacheDamagedError(f"{self._where}: {found}")

    def block(self, offset: int, size: int, what: str) -> "Block":
        """Return `size` bytes, which from now on belong to `what`."""
        end = offset + size
        if end > len(self):
            raise self.damaged(
                f"{what} lies outside the file (bytes {offset:,} to {end:,} of {len(self):,})"
            )
        place = bisect(self._given, (offset, end, what))
        for start, stop, other in self._given[max(place - 1, 0) : place + 1]:
            if start < end and offset < stop:
                raise self.damaged(f"{what} overlaps {other} at byte {max(start, offset):,}")
        if len(self._given) == MOST_BLOCKS:
            raise self.damaged(f"more than {MOST_BLOCKS:,} blocks of structure")
        self._given.insert(place, (offset, end, what))
        return Block(self, self._data[offset:end], what)


@dataclass(frozen=True)
class Block:
    """The bytes of one structure; the only way to read any."""

    file: FileBytes
    data: memoryview
    what: str

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.part(offset, size).data)

    def number(self, offset: int, size: int = 8) -> int:
        return int.from_bytes(self.read(offset, size), "little")

    def part(self, offset: int, size: int) -> "Block":
        data = self.data[offset : offset + size]
        if len(data) < size:
            raise self.damaged(
                f"ends after {len(self.data)} bytes, before its byte {offset + size}"
            )
        return Block(self.file, data, self.what)

    def text(self, offset: int) -> str:
        """Return the text that begins at `offset` and ends before a zero byte."""
        data = bytes(self.data[offset : offset + LONGEST_NAME + 1])
        text, zero, _ = data.partition(b"\0")
        if not text or not zero:
            raise self.damaged(f"has no name of 1 to {LONGEST_NAME} bytes at {offset}")
        try:
            return text.decode("ascii")  # h5py keeps other names in a newer form of links
        except UnicodeDecodeError as error:
            raise self.damaged(f"has a name that is not ASCII ({error})") from error

    def damaged(self, found: str) -> CacheDamagedError:
        return self.file.damaged(f"{self.what} {found}")

    def refused(self, found: str) -> CacheDamagedError:
        """Return the error for a valid structure that we never write."""
        return self.damaged(f"{found}; only contiguous numbers in h5py's default format are read")


@dataclass(frozen=True)
class Message:
    """One message of an object header: what kind, shared with other objects or not, its bytes."""

    kind: int
    shared: bool
    body: Block


def object_header(file: FileBytes, address: int, what: str) -> list[Message]:
    """Return all messages of an object, its continuation blocks included.

    Source: "Version 1 Data Object Header Prefix", "The Object Header Continuation Message".
    """
    prefix = file.block(address, 16, what)
    if prefix.read(0, 4) == b"OHDR":
        raise prefix.refused("has an object header of version 2")
    if prefix.number(0, 1) != 1:
        raise prefix.damaged(f"has no object header at byte {address:,}")
    blocks = [file.block(address + 16, prefix.number(8, 4), what)]
    messages: list[Message] = []
    for block in blocks:  # which grows while it is read
        place = 0
        while place < len(block.data):
            if len(messages) == MOST_MESSAGES:
                raise prefix.damaged(f"has more than {MOST_MESSAGES} header messages")
            kind, size = block.number(place, 2), block.number(place + 2, 2)
            shared = bool(block.number(place + 4, 1) & SHARED)
            body = block.part(place + 8, size)
            place += 8 + size
            messages.append(Message(kind, shared, body))
            if kind == CONTINUATION:
                blocks.append(file.block(body.number(0), body.number(8), what))
    if len(messages) != prefix.number(2, 2):
        raise prefix.damaged(
            f"has {len(messages)} header messages, but its header says {prefix.number(2, 2)}"
        )
    return messages


def bodies(header: Sequence[Message], kinds: Sequence[int], what: Block) -> list[Block]:
    """Return the one body of each of these kinds, having refused a message of any other kind."""
    found: dict[int, Block] = {}
    for message in header:
        kind, body = message.kind, message.body
        if kind in SAYS_NOTHING:
            continue
        if kind not in kinds:
            raise body.refused(_foreign(message))
        if message.shared:
            raise body.refused("shares a header message with other objects (a committed datatype)")
        if kind in found:
            raise body.damaged(f"has two header messages of type {kind:#04x}")
        found[kind] = body
    missing = [f"{kind:#04x}" for kind in kinds if kind not in found]
    if missing:
        raise what.refused(f"is no dataset: it has no header message of type {', '.join(missing)}")
    return [found[kind] for kind in kinds]


def refuse_newer_links(header: Sequence[Message], group: Block) -> None:
    """Refuse a group whose links are not in a symbol table; external links never are.

    Source: "The Link Message".
    """
    kinds = [message.kind for message in header]
    if LINK in kinds:
        body = header[kinds.index(LINK)].body
        flags = body.number(1, 1)
        kind = body.number(2, 1) if flags & 0x08 else 0
        place = 2 + bool(flags & 0x08) + 8 * bool(flags & 0x04) + bool(flags & 0x10)
        width = 1 << (flags & 0x03)
        name = body.part(place + width, body.number(place, width)).data[:LONGEST_NAME]
        described = LINK_TYPES.get(kind, f"a link of user-defined type {kind}")
        raise group.refused(f"has {described} {bytes(name).decode(errors='replace')!r}")
    if not NEWER_LINKS.isdisjoint(kinds):
        raise group.refused("keeps its links in a newer form than a symbol table")


def _foreign(message: Message) -> str:
    """Say what a message that we never write makes of its object.

    Source: "The Link Message", "The Data Storage - Filter Pipeline Message".
    """
    body = message.body
    if message.kind == EXTERNAL:
        return "keeps its numbers in other files (external storage)"
    if message.kind == FILTERS:
        ids, place = [], 8
        for _ in range(min(body.number(1, 1), MOST_FILTERS)):
            ids.append(str(body.number(place, 2)))
            values = body.number(place + 6, 2)
            place += 8 + body.number(place + 2, 2) + 4 * (values + values % 2)
        return f"is stored through filters (ids {', '.join(ids)})"
    if message.kind in {SYMBOL_TABLE, *NEWER_LINKS}:
        return "is a group"
    return f"has a header message of unknown type {message.kind:#04x}"


def shape_of(body: Block) -> tuple[int, ...]:
    """Return the shape that a dataspace message states. Source: "The Dataspace Message"."""
    version, rank, flags = body.number(0, 1), body.number(1, 1), body.number(2, 1)
    if version == 2 and body.number(3, 1) == 2:
        raise body.refused("is empty (a null dataspace)")
    if version != 1 or flags > 1:
        raise body.refused(f"has a dataspace of version {version} with flags {flags}")
    if rank == 0:
        raise body.refused("is a single number without rows (a scalar dataspace)")
    if rank > MOST_DIMENSIONS:
        raise body.damaged(f"claims {rank} dimensions, more than {MOST_DIMENSIONS}")
    shape = tuple(body.number(8 + 8 * axis) for axis in range(rank))
    largest = tuple(body.number(8 + 8 * (rank + axis)) for axis in range(rank)) if flags else shape
    if any(size > most for size, most in zip(shape, largest, strict=True)):
        raise body.damaged(f"has shape {shape}, larger than its own limits {largest}")
    return shape


def _datatypes() -> dict[bytes, np.dtype]:
    """Return the datatype messages that h5py writes for numpy's own numbers.

    Fixed-point: class and version, sign, size, first bit, bits. Floating-point (IEEE 754): class
    and version, form of the mantissa, place of the sign, size, first bit, bits, place and size of
    exponent and of mantissa, bias. Source: "The Datatype Message".
    """
    found = {}
    for size in (1, 2, 4, 8):
        for kind, sign in (("u", 0x00), ("i", 0x08)):
            key = struct.pack("<BBHIHH", 0x10, sign, 0, size, 0, 8 * size)
            found[key] = np.dtype(f"<{kind}{size}")
    for size, exponent in ((2, 5), (4, 8), (8, 11)):
        mantissa, sign, bias = 8 * size - 1 - exponent, 8 * size - 1, 2 ** (exponent - 1) - 1
        bits = (0, 8 * size, mantissa, exponent, 0, mantissa, bias)
        key = struct.pack("<BBHIHHBBBBI", 0x11, 0x20, sign, size, *bits)
        found[key] = np.dtype(f"<f{size}")
    return found


DATATYPES = _datatypes()


def dtype_of(body: Block) -> np.dtype:
    """Return the dtype that a datatype message states."""
    kind = body.number(0, 1) & 0x0F
    if kind > 1:
        name = DATATYPE_CLASSES[kind] if kind < len(DATATYPE_CLASSES) else f"of class {kind}"
        raise body.refused(f"has elements that are {name}")
    key = body.read(0, 20 if kind else 12)
    if key not in DATATYPES:
        order = "big-endian " if key[1] & 1 else f"unusual (datatype {key.hex()}) "
        raise body.refused(f"is {order}{DATATYPE_CLASSES[kind]}")
    return DATATYPES[key]


def storage_of(body: Block) -> tuple[int, int]:
    """Return the address and the bytes that a layout message states.

    Source: "The Data Layout Message", version 3, contiguous storage.
    """
    version, kind = body.number(0, 1), body.number(1, 1)
    if version in (3, 4) and kind in LAYOUT_CLASSES:
        raise body.refused(f"is {LAYOUT_CLASSES[kind]}")
    if (version, kind) != (3, 1):
        raise body.refused(f"has a layout of version {version}, class {kind}")
    return body.number(2), body.number(10)
