"""The size of the pictures inside of an AVIF file, which its outer header need not have.

libavif decodes what the AV1 stream declares, up to 268 megapixels, and then scales it to the size
that Pillow knows. Sources: ISO 14496-12 (boxes, `iloc`) and the AV1 specification, 5.3 and 5.5.
"""

import struct
from collections.abc import Iterator

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile

from frozen_vqa.pipeline.errors import ImageError

SEQUENCE_HEADER = 1
MOST_PARTS = 10_000
"""Items, extents and units; a picture of tiles has some dozens."""


def require_few_inside(image: Image.Image, data: bytes, most: int) -> None:
    """Raise `ImageError` if a picture inside of an AVIF file has more than `most` pixels."""
    if not isinstance(image, AvifImageFile) or not data:
        return
    try:
        sizes = [size for stream in _items(data) for size in _sizes(stream)]
    except (struct.error, IndexError) as error:
        raise ImageError(f"truncated or damaged (its headers: {error})") from None
    if not sizes:
        raise ImageError("truncated or damaged (no picture in it)")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if width * height > most:
        raise ImageError(
            f"too large: {width} by {height} inside is {width * height / 1e6:.0f} megapixels, "
            f"the limit is {most / 1e6:.0f}"
        )


def _boxes(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the begin and the end of what boxes hold."""
    while place + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, place)
        header = 8
        if length == 1:
            (length,), header = struct.unpack_from(">Q", data, place + 8), 16
        stop = place + length if length else end
        if stop < place + header or stop > end:
            raise struct.error("a box of a wrong length")
        yield kind, place + header, stop
        place = stop


def _items(data: bytes) -> Iterator[bytes]:
    """Yield the bytes of each item of a file."""
    inside: dict[bytes, tuple[int, int]] = {}
    for kind, begin, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            raise ImageError(
                "AVIF of a kind that is not read: an animation; save one frame as 8-bit PNG"
            )
        if kind == b"meta":
            inside = {name: (start, stop) for name, start, stop in _boxes(data, begin + 4, end)}
    if b"iloc" not in inside:
        raise struct.error("no places of items")
    place, left = inside[b"iloc"][0], MOST_PARTS
    version, sizes, more = data[place], data[place + 4], data[place + 5]
    widths = (more >> 4, more & 15 if version else 0, sizes >> 4, sizes & 15)
    base_width, index_width, offset_width, length_width = widths
    wide = 4 if version == 2 else 2
    count, place = _number(data, place + 6, wide), place + 6 + wide
    for _ in range(count):
        place += wide
        method = 0
        if version:
            method, place = _number(data, place, 2) & 15, place + 2
        base, extents = _number(data, place + 2, base_width), place + 2 + base_width
        pieces, place = [], extents + 2
        for _ in range(_number(data, extents, 2)):
            left -= 1
            if left < 0:
                raise struct.error("too many items")
            place += index_width
            start = base + _number(data, place, offset_width)
            length = _number(data, place + offset_width, length_width)
            place += offset_width + length_width
            if method == 1:
                start += inside.get(b"idat", (len(data), 0))[0]
            pieces.append(data[start : start + length] if length else data[start:])
        yield b"".join(pieces) if len(pieces) != 1 else pieces[0]


def _number(data: bytes, place: int, width: int) -> int:
    if place + width > len(data):
        raise struct.error("the file ends in them")
    return int.from_bytes(data[place : place + width], "big")


def _sizes(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield the sizes that the sequence headers of an AV1 stream declare."""
    place, left = 0, MOST_PARTS
    while place < len(stream) and left:
        left -= 1
        head = stream[place]
        place += 2 if head & 4 else 1
        length = len(stream) - place
        if head & 2:
            length = shift = 0
            for _ in range(8):
                byte = stream[place]
                length |= (byte & 127) << shift
                place, shift = place + 1, shift + 7
                if byte < 128:
                    break
        if head >> 3 & 15 == SEQUENCE_HEADER:
            yield _declared(_Bits(stream[place : place + min(length, 200)]))
        place += length


class _Bits:
    """Numbers of some bits each, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise struct.error("a sequence header ends early")
        return self._value >> self._left & ((1 << count) - 1)


def _declared(bits: _Bits) -> tuple[int, int]:
    """Return the largest width and height of a sequence."""
    bits.take(4)  # the profile, and whether it is a still picture
    if bits.take(1):
        bits.take(5)
    else:
        model = 0
        if bits.take(1):  # timing
            bits.take(64)
            if bits.take(1):
                zeros = 0
                while not bits.take(1):
                    zeros += 1
                bits.take(min(zeros, 31))
            if bits.take(1):
                model = bits.take(5) + 1
                bits.take(42)
        delay = bool(bits.take(1))
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if model and bits.take(1):
                bits.take(2 * model + 1)
            if delay and bits.take(1):
                bits.take(4)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(wide) + 1, bits.take(high) + 1
