"""The rows of docs/bad-inputs.md about orientation: in damaged tags, odd ones, other places."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support import raw_pictures as raw
from tests.support.bad_inputs import Row
from tests.support.bad_pictures import SIDES, halves, picture
from tests.support.pictures import encoded

MAKE, ORIENTATION, MAKER_NOTE, EXIF_FOLDER = 0x010F, 0x0112, 0x927C, 0x8769
SHORT, LONG, BYTE, TEXT = 3, 4, 1, 2

STORED_AS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""What to do to an upright picture so that a viewer who obeys the tag undoes it."""


def turned(orientation: int = 6) -> Image.Image:
    """The red and blue halves as a camera stores them that writes this orientation."""
    return Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](SIDES.astype(np.uint8))))


def exif(
    *entries: tuple[int, int, int, bytes],
    order: str = "<",
    count: int | None = None,
    rest: bytes = b"",
) -> bytes:
    """Return an EXIF block of raw entries (tag, type, count, 4 bytes), however wrong they are."""
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    number = len(entries) if count is None else count
    return b"Exif\0\0" + head + struct.pack(f"{order}H", number) + body + rest


def tag(value: int = 6, kind: int = SHORT, order: str = "<") -> tuple[int, int, int, bytes]:
    letter = {SHORT: "H", LONG: "I", BYTE: "B"}[kind]
    return ORIENTATION, kind, 1, struct.pack(f"{order}{letter}", value).ljust(4, b"\0")


def in_jpeg(image: Image.Image, *blocks: bytes) -> bytes:
    """Put blocks before the pixels of a JPEG."""
    data = encoded(image, "JPEG", quality=100, subsampling=0)
    markers = [b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block for block in blocks]
    return data[:2] + b"".join(markers) + data[2:]


def in_png(image: Image.Image, *chunks: bytes, behind: bool = False) -> bytes:
    """Put chunks before the pixels of a PNG, or `behind` them."""
    data = encoded(image)
    place = data.rindex(b"IEND") - 4 if behind else data.index(b"IDAT") - 4
    return data[:place] + b"".join(chunks) + data[place:]


def in_webp(image: Image.Image, block: bytes) -> bytes:
    return encoded(image, "WEBP", lossless=True, exif=block)


def in_tiff(image: Image.Image, *, orientation: int = 6, **more: tuple[int, Any]) -> bytes:
    tags = {ORIENTATION: (SHORT, orientation)}
    tags |= {int(number.removeprefix("tag_")): entry for number, entry in more.items()}
    return raw.tiff(np.asarray(image), 8, raw.OF_RGB, tags=tags)


def xmp(value: int) -> bytes:
    return f'<rdf:Description tiff:Orientation="{value}"/>'.encode()


def in_jpegs() -> dict[str, tuple[bytes, str]]:
    up, image, plain = "turned upright", turned(), halves()
    outside = (MAKE, TEXT, 2**31, b"\xff\xff\xff\x7f")
    note = (MAKER_NOTE, 7, 60_000, struct.pack("<I", 38))
    folder = (EXIF_FOLDER, LONG, 1, b"\xff\xff\xff\x7f")
    adobe = b"http://ns.adobe.com/xap/1.0/\0"
    return {
        "big-endian": (in_jpeg(image, exif(tag(order=">"), order=">")), up),
        "as a 32-bit number": (in_jpeg(image, exif(tag(kind=LONG))), up),
        "as a byte": (in_jpeg(image, exif(tag(kind=BYTE))), up),
        "after a tag that points outside": (in_jpeg(image, exif(outside, tag())), up),
        "after a tag of an unknown type": (
            in_jpeg(image, exif((MAKE, 99, 1, bytes(4)), tag())), up),
        "among more tags than there are": (in_jpeg(image, exif(tag(), count=500)), up),
        "given twice": (in_jpeg(image, exif(tag(), tag(3))), "the first counts"),
        "beside a maker note of 60,000 bytes": (
            in_jpeg(image, exif(tag(), note, rest=bytes(60_000))), up),
        "beside a folder of tags that is missing": (in_jpeg(image, exif(tag(), folder)), up),
        "0": (in_jpeg(plain, exif(tag(0))), "as stored"),
        "9": (in_jpeg(plain, exif(tag(9))), "as stored"),
        "missing in EXIF": (in_jpeg(plain, exif()), "as stored"),
        "cut off": (in_jpeg(plain, exif(tag())[:18]), "as stored"),
        "in EXIF that is garbage": (in_jpeg(plain, b"Exif\0\0garbage"), "as stored"),
        "in XMP alone": (in_jpeg(image, adobe + xmp(6)), up),
        "in EXIF, and another in XMP": (
            in_jpeg(image, adobe + xmp(3), exif(tag())), "that of EXIF counts"),
        "of the first of several pictures (MPO)": (
            encoded(image, "MPO", save_all=True, append_images=[plain], quality=100,
                    subsampling=0, exif=exif(tag())), up),
    }  # fmt: skip


def in_others() -> dict[str, tuple[bytes, str]]:
    up, image, plain = "turned upright", turned(), halves()
    outside = (MAKE, TEXT, 2**31, b"\xff\xff\xff\x7f")
    block = exif(outside, tag())
    text = b"Raw profile type exif\0\nexif\n%8d\n" % len(block) + block.hex().encode()
    chunk = raw.png_chunk
    far = {"tag_34665": (LONG, 2**31), "tag_34853": (LONG, 2**31)}
    xml = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)
    return {
        "in a PNG": (in_png(image, chunk(b"eXIf", block[6:])), up),
        "in a PNG, behind the pixels": (in_png(image, chunk(b"eXIf", block), behind=True), up),
        "in a PNG's text of ImageMagick": (in_png(image, chunk(b"tEXt", text)), up),
        "in a PNG's text of ImageMagick, cut off": (
            in_png(plain, chunk(b"tEXt", text[:-11] + b"xyz")),
            "as stored",
        ),
        "in a PNG's XMP alone": (in_png(image, chunk(b"iTXt", xml)), up),
        "in a WebP": (in_webp(image, block), up),
        "in a TIFF": (in_tiff(image), up),
        "in a TIFF, beside folders of tags that are missing": (in_tiff(image, **far), up),
        "in a TIFF, beside XMP that is a number": (in_tiff(image, tag_700=(LONG, 2**31)), up),
    }


def rows() -> Mapping[str, Callable[[Path], Row]]:
    outside = (MAKE, TEXT, 100, b"\0\0\0\x7f")
    each = {
        f"{value}, after a damaged tag": (
            in_jpeg(turned(value), exif(outside, tag(value))), "turned upright")
        for value in STORED_AS
    }  # fmt: skip
    files = {**each, **in_jpegs(), **in_others()}
    return {
        f"orientation {name}": picture(data, sentence, close_to=SIDES)
        for name, (data, sentence) in files.items()
    }


ORIENTATIONS = rows()
