"""The parts of a JPEG 2000 file that Pillow does not look at before it decodes.

The code blocks, precincts and layers that its headers declare take OpenJPEG memory and time,
however few bytes the file has: precincts of one pixel cost 570 bytes a pixel. Source: ITU-T T.800,
annex A.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from frozen_vqa.pipeline.errors import ImageError

SOC, SIZ, COD, COC, SOT, SOD = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93

SMALLEST_BLOCK = 256
"""Pixels of a code block; usual ones have 1,024 or 4,096."""

MOST_SEGMENTS = 300_000
"""Parts of all headers; there are at most 65,535 tiles."""

SHARE, SLACK = 256, 20_000
"""Packets that may be declared: one for so many pixels, and some more."""


@dataclass(frozen=True)
class Codestream:
    """What the header of the pixels says.

    Attributes:
        bits: Depth of a sample of the first channel.
        signed: Whether its samples are signed.
        unusual: What makes it slow to decode, "" if nothing does.
    """

    size: tuple[int, int]
    channels: int
    bits: int
    signed: bool
    unusual: str


def read_codestream(data: bytes) -> Codestream:
    """Read the headers of a JPEG 2000 file; raise `ImageError` if they are damaged."""
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError, ZeroDivisionError) as error:
        raise ImageError(f"truncated or damaged (its headers: {error})") from None


def opened_codestream(image: Image.Image) -> Codestream | None:
    """Return the headers of a picture that Pillow has opened; None if it is decoded, or another."""
    file = image.fp if isinstance(image, Jpeg2KImageFile) and image.tile else None
    if file is None:
        return None
    if isinstance(file, io.BytesIO):
        return read_codestream(file.getvalue())
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    return read_codestream(data)


def require_usual(image: Image.Image) -> None:
    """Raise `ImageError` if a picture, just opened, has headers that make it slow to decode."""
    if not (found := opened_codestream(image)):
        return
    if found.unusual:
        raise ImageError(
            f"too many parts: {found.unusual}; save it as PNG, or as JPEG 2000 with the usual "
            f"code blocks of 64 by 64 pixels"
        )
    if found.size != image.size:
        raise ImageError(
            f"truncated or damaged (its headers say {image.size} and {found.size} pixels)"
        )


def _read(data: bytes) -> Codestream:
    start = _codestream(data)
    _, _, _, _, width, height, left, top, tile_w, tile_h, _, _, channels = struct.unpack_from(
        ">HHHHIIIIIIIIH", data, start
    )
    depth = data[start + 42]
    size = (width - left, height - top)
    area = max(1, size[0] * size[1])
    tile = min(area, tile_w * tile_h)
    layers, unusual = 1, "" if 0 < channels <= 4 else f"it has {channels:,} channels"
    for count, (marker, place) in enumerate(_segments(data, start + 2)):
        if count > MOST_SEGMENTS:
            unusual = f"its headers have more than {MOST_SEGMENTS:,} parts"
        if unusual:
            break
        if marker == COD:
            (layers,) = struct.unpack_from(">H", data, place + 6)
        if marker in (COD, COC):
            block, precincts = _coding(data, place, marker, tile_w, tile_h)
            packets = precincts * (area / tile) * channels * layers
            if block < SMALLEST_BLOCK:
                unusual = f"its code blocks have {block} pixels"
            elif packets > area / SHARE + SLACK:
                unusual = f"its headers declare {packets:,.0f} packets"
    return Codestream(size, channels, (depth & 0x7F) + 1, bool(depth & 0x80), unusual)


def _codestream(data: bytes) -> int:
    """Return where the pixels' own header begins, whatever other boxes hold."""
    place = 0
    while data[place : place + 4] != struct.pack(">HH", SOC, SIZ):
        length, kind = struct.unpack_from(">I4s", data, place)
        header = 8
        if length == 1:
            (length,), header = struct.unpack_from(">Q", data, place + 8), 16
        place += header if kind == b"jp2c" else length or len(data)
        if length and length < header:
            raise ImageError("truncated or damaged (a box of no length)")
    return place


def _segments(data: bytes, place: int) -> Iterator[tuple[int, int]]:
    """Yield the marker segments of the main header and of all tile parts, with their places."""
    tile_end = None
    while place + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, place)
        if marker == SOD:
            if not tile_end or tile_end <= place:
                return
            place, tile_end = tile_end, None
            continue
        if marker >> 8 != 0xFF or length < 2:
            return
        yield marker, place
        if marker == SOT:
            part = struct.unpack_from(">I", data, place + 6)[0]
            tile_end = place + part if part else None  # 0: up to the end of the file
        place += 2 + length


def _coding(data: bytes, place: int, marker: int, tile_w: int, tile_h: int) -> tuple[int, float]:
    """Return the pixels of a code block, and the precincts of a channel of a tile."""
    (length,) = struct.unpack_from(">H", data, place + 2)
    style, at = (data[place + 4], place + 9) if marker == COD else (data[place + 5], place + 6)
    levels, wide, high = data[at : at + 3]
    sizes = data[at + 5 : place + 2 + length] if style & 1 else b"\xff" * (levels + 1)
    precincts = 0.0
    for resolution, size in enumerate(sizes):
        across, down = (
            max(1.0, edge / 2.0 ** (levels - resolution + exponent))
            for edge, exponent in ((tile_w, size & 15), (tile_h, size >> 4))
        )
        precincts += across * down
    return 1 << (wide + high + 4), precincts
