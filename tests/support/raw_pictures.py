"""PNG and TIFF files written byte by byte, so that no reader checks itself with its own writer."""

import itertools
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of PNG."""

WHITE_IS_ZERO, BLACK_IS_ZERO, OF_RGB, OF_PALETTE, OF_CMYK, OF_YCBCR, OF_LAB = 0, 1, 2, 3, 5, 6, 8
"""Photometric interpretations of TIFF."""

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
"""Sample formats of TIFF."""

_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    samples: Any,
    bits: int,
    colour: int,
    *,
    interlaced: bool = False,
    before: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """Return a PNG of samples (height, width) or (height, width, channels); `before` its data."""
    samples = np.asarray(samples)
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in _ADAM7] if interlaced else [samples]
    rows = [b"\0" + packed(row, bits, ">") for part in passes if part.size for row in part]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    chunks = {
        b"IHDR": header,
        **(before or {}),
        b"IDAT": zlib.compress(b"".join(rows)),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(png_chunk, chunks.items()))


def black_png(edge: int) -> bytes:
    """Return a PNG of edge x edge 1-bit pixels, all 0: few bytes, however large it is."""
    rows = zlib.compress(bytes(edge * (edge // 8 + 1 + (edge % 8 > 0))), 9)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", edge, edge, 1, GREY, 0, 0, 0), b"IDAT": rows}
    return b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(png_chunk, chunks.items()))


def packed(row: np.ndarray, bits: int, order: str, kind: str = "u") -> bytes:
    """Return samples as bytes: whole ones in byte order, others from the highest bit on."""
    if bits in (8, 16, 32, 64):
        return row.astype(f"{order}{kind}{bits // 8}").tobytes()
    flat = row.astype(np.int64).ravel()[:, None] >> np.arange(bits)[::-1]
    return np.packbits((flat & 1).astype(np.uint8)).tobytes()


def ifd(tags: Mapping[int, tuple[int, Any]], order: str, start: int) -> bytes:
    """Return a directory that stands at offset `start`; a tag is (type, value or values).

    Types: 1 uint8, 3 uint16, 4 uint32; the value of any other is bytes.
    """
    letters = {1: "B", 3: "H", 4: "I"}
    entries, more = b"", b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        if kind in letters:
            values = value if isinstance(value, Sequence) else [value]
            data = struct.pack(f"{order}{len(values)}{letters[kind]}", *values)
            count = len(values)
        else:
            data, count = value, len(value)
        if len(data) > 4:
            place = struct.pack(f"{order}I", behind + len(more))
            more += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, count) + place
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + more


def tiff(
    samples: Any,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    sample_format: int | None = None,
    planar: bool = False,
    tile: int | None = None,
    deflated: bool = False,
    tags: Mapping[int, tuple[int, Any]] | None = None,
) -> bytes:
    """Return a TIFF of samples (height, width) or (height, width, channels).

    Without `tile` it is one strip, or one for each channel if `planar`; `tags` are added, or
    replace those that it has.
    """
    samples = np.asarray(samples)
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    kind = {None: "u", UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[sample_format]
    planes = [samples[..., [c]] for c in range(channels)] if planar else [samples]
    if tile:
        planes = [
            np.pad(part, ((0, tile - len(part)), (0, tile - part.shape[1]), (0, 0)))
            for plane in planes
            for y in range(0, height, tile)
            for x in range(0, width, tile)
            for part in [plane[y : y + tile, x : x + tile]]
        ]
    blocks = [b"".join(packed(row, bits, order, kind) for row in plane) for plane in planes]
    if deflated:
        blocks = [zlib.compress(block) for block in blocks]
    ends = list(itertools.accumulate(map(len, blocks), initial=8))
    length = [len(block) for block in blocks]
    layout: dict[int, tuple[int, Any]] = (
        {322: (4, tile), 323: (4, tile), 324: (4, ends[:-1]), 325: (4, length)}
        if tile
        else {273: (4, ends[:-1]), 278: (4, height), 279: (4, length)}
    )
    directory = {
        256: (4, width),
        257: (4, height),
        258: (3, [bits] * channels),
        259: (3, 8 if deflated else 1),
        262: (3, photometric),
        277: (3, channels),
        284: (3, 2 if planar else 1),
        **({} if sample_format is None else {339: (3, [sample_format] * channels)}),
        **layout,
        **(tags or {}),
    }
    body = b"".join(blocks)
    body += b"\0" * (len(body) % 2)
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(body))
    return magic + body + ifd(directory, order, 8 + len(body))


def gif(
    samples: Any,
    colours: Any,
    *,
    place: tuple[int, int] = (0, 0),
    canvas: tuple[int, int] | None = None,
    transparent: int | None = None,
    interlaced: bool = False,
    local: bool = False,
) -> bytes:
    """Return a GIF of at most 128 colours.

    Its one frame lies at `place` (x, y) of a canvas (width, height).
    """
    samples = np.asarray(samples, np.uint8)
    height, width = samples.shape
    if interlaced:
        starts = ((0, 8), (4, 8), (2, 4), (1, 2))
        samples = np.concatenate([samples[start::step] for start, step in starts])
    table = np.zeros((128, 3), np.uint8)
    table[: len(colours)] = colours
    size = struct.pack("<HH", *(canvas or (width, height)))
    # Codes keep 8 bits because 128, which clears the table, stands before each pixel.
    codes = bytes(code for pixel in samples.ravel() for code in (128, pixel)) + b"\x81"
    blocks = [codes[i : i + 255] for i in range(0, len(codes), 255)]
    data = b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    control = b"" if transparent is None else b"!\xf9\x04\x01\0\0" + bytes([transparent, 0])
    frame = b"," + struct.pack("<HHHH", *place, width, height)
    frame += bytes([(0x86 if local else 0) | (0x40 if interlaced else 0)])
    shared = b"" if local else table.tobytes()
    return (
        b"GIF89a"
        + size
        + bytes([0 if local else 0xF6, 0, 0])
        + shared
        + control
        + frame
        + (table.tobytes() if local else b"")
        + b"\x07"
        + data
        + b";"
    )


def bmp(
    samples: Any,
    bits: int,
    *,
    colours: Any = (),
    masks: Sequence[int] = (),
    header: int = 40,
    top_down: bool = False,
    compression: int | None = None,
    data: bytes | None = None,
) -> bytes:
    """Return a BMP. `samples` are palette indices, or whole pixels as the integers of the file.

    `header` is 12 (OS/2), 40, 108 (V4) or 124 (V5); `masks` red, green, blue and alpha.
    """
    samples = np.asarray(samples, np.int64)
    height, width = samples.shape
    rows = samples if top_down else samples[::-1]
    if data is None:
        if bits < 8:
            lines = [packed(row, bits, "<") for row in rows]
        else:
            parts = rows[..., None] >> np.arange(0, bits, 8)
            lines = [(row & 255).astype(np.uint8).tobytes() for row in parts]
        data = b"".join(line + b"\0" * (-len(line) % 4) for line in lines)
    table = np.asarray(colours, np.uint8).reshape(-1, 3)[:, ::-1]
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
        palette = table.tobytes()
    else:
        kind = (3 if masks else 0) if compression is None else compression
        sizes = (width, -height if top_down else height, 1, bits, kind, len(data))
        info = struct.pack("<IiiHHIIiiII", header, *sizes, 0, 0, len(table), 0)
        more = struct.pack(f"<{len(masks)}I", *masks)
        info += more if header == 40 else more.ljust(header - 40, b"\0")
        palette = np.pad(table, ((0, 0), (0, 1))).tobytes()
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + palette + data
