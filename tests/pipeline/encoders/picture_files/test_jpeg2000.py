"""JPEG 2000: what would take much memory or time is refused before it is decoded."""

import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.pipeline.encoders.picture_files.jpeg2000 import read_codestream
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from tests.support.pictures import encoded, noise, pixels


def codestream(size: int = 600, **options: Any) -> bytes:
    return encoded(Image.new("L", (size, size)), "JPEG2000", no_jp2=True, **options)


def with_precincts(sizes: int, resolutions: int = 1) -> bytes:
    """A codestream whose header declares precincts of these exponents, two of four bits."""
    data = codestream(num_resolutions=resolutions)
    place = data.index(b"\xff\x52")
    length = struct.unpack_from(">H", data, place + 2)[0]
    head = data[: place + 2] + struct.pack(">H", length + resolutions) + b"\x01"
    segment = data[place + 5 : place + 2 + length] + bytes([sizes] * resolutions)
    return head + segment + data[place + 2 + length :]


def with_layers(count: int) -> bytes:
    data = bytearray(codestream())
    place = data.index(b"\xff\x52")
    data[place + 6 : place + 8] = struct.pack(">H", count)
    return bytes(data)


def in_a_tile(data: bytes) -> bytes:
    """Move the header of the coding from the main header to that of the first tile."""
    start = data.index(b"\xff\x52")
    length = 2 + struct.unpack_from(">H", data, start + 2)[0]
    tile = data.index(b"\xff\x90")
    part = struct.unpack_from(">I", data, tile + 6)[0]
    header = data[tile : tile + 6] + struct.pack(">I", part + length if part else 0)
    header += data[tile + 10 : tile + 12]
    usual = codestream(num_resolutions=1)
    at = usual.index(b"\xff\x52")
    kept = usual[at : at + 2 + struct.unpack_from(">H", usual, at + 2)[0]]
    coding = data[start : start + length]
    before = data[:start] + kept + data[start + length : tile]
    return before + header + coding + data[tile + 12 :]


def behind_a_decoy(data: bytes) -> bytes:
    """A JP2 with a harmless codestream in a box before the real one."""
    whole = encoded(Image.new("L", (600, 600)), "JPEG2000")
    place = whole.index(b"jp2c") - 4
    decoy = codestream()
    boxes = struct.pack(">I4s", 8 + len(decoy), b"uuid") + decoy
    return whole[:place] + boxes + struct.pack(">I4s", 8 + len(data), b"jp2c") + data


BOMBS = {
    "precincts of one pixel": (with_precincts(0x00), "packets"),
    "precincts of four pixels": (with_precincts(0x11), "packets"),
    "small code blocks": (codestream(codeblock_size=(4, 4)), "code blocks have 16 pixels"),
    "many layers": (with_layers(65535), "packets"),
    "tiny tiles": (codestream(tile_size=(4, 4)), "packets|code blocks"),
    "in the header of a tile": (in_a_tile(with_precincts(0x00)), "packets"),
    "behind a decoy": (behind_a_decoy(with_precincts(0x00)), "packets"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_headers_that_make_decoding_dear_are_refused(name: str) -> None:
    data, sentence = BOMBS[name]

    with pytest.raises(ImageError, match=f"too many parts: .*({sentence})"):
        load_rgb(data)


def test_too_many_pixels_are_refused() -> None:
    small, at = bytearray(codestream(8)), len(b"\xff\x4f\xff\x51") + 4
    small[at : at + 8] = struct.pack(">II", 9000, 9000)
    with pytest.raises(ImageError, match="too large: 9000 by 9000 is 81 megapixels, the limit is"):
        load_rgb(bytes(small))
    small[at : at + 8] = struct.pack(">II", 6000, 6000)
    with pytest.raises(ImageError, match=r"too large: .* the limit is 33"):
        load_rgb(bytes(small))


def test_a_box_that_says_another_size_is_damage() -> None:
    data = bytearray(encoded(noise(8, 6), "JPEG2000"))
    place = data.index(b"ihdr") + 4
    data[place : place + 8] = struct.pack(">II", 3, 4)

    with pytest.raises(ImageError, match="truncated or damaged"):
        load_rgb(bytes(data))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile_size": (128, 128)},
        {"precinct_size": (128, 128)},
        {"codeblock_size": (32, 32)},
        {"quality_layers": [20, 10, 5], "irreversible": True},
        {"progression": "RPCL", "num_resolutions": 3},
    ],
)
@pytest.mark.parametrize("size", [(3, 2), (200, 150), (700, 500)])
def test_usual_files_are_read(options: dict[str, Any], size: tuple[int, int]) -> None:
    image = noise(*size)
    if min(size) < 9:
        options = {k: v for k, v in options.items() if k != "num_resolutions"}
    data = encoded(image, "JPEG2000", **options)

    if "irreversible" not in options:
        assert np.array_equal(pixels(data), image)
    assert read_codestream(data).size == size


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_damaged_header_is_pixels_or_a_sentence(place: int, value: int, boxed: bool) -> None:
    data = bytearray(encoded(noise(16, 12), "JPEG2000", no_jp2=not boxed))
    data[place % min(len(data), 220)] = value

    with suppress(ImageError):
        assert load_rgb(bytes(data)).mode == "RGB"
