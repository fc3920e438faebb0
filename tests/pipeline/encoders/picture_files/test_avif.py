"""AVIF: upright and opaque, and no picture inside that is larger than allowed."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.pipeline.encoders.picture_files import avif, budget
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from tests.support.pictures import encoded, noise, pixels

EXIF = Image.Exif()
EXIF[0x0112] = 1
DATA = encoded(noise(40, 24), "AVIF")


def test_avif_turns_upright_and_has_no_transparency() -> None:
    stored = noise(4, 2).resize((64, 32), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = pixels(encoded(stored, "AVIF", exif=exif, quality=100))
    assert seen.shape == (64, 32, 3)
    right = np.asarray(stored.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(seen - right)[8::16, 8::16].max() < 30

    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    assert pixels(encoded(clear, "AVIF")).min() == 255


def with_outer_size(data: bytes, width: int, height: int) -> bytes:
    changed = bytearray(data)
    place = data.index(b"ispe") + 8
    changed[place : place + 8] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(changed)


def test_an_outer_header_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="too large: 9000 by 9000 is 81 megapixels"):
        load_rgb(with_outer_size(DATA, 9000, 9000))


def test_a_picture_inside_of_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = with_outer_size(DATA, 5, 3)
    assert load_rgb(small).size == (5, 3)  # libavif scales it
    monkeypatch.setattr(budget, "MAX_PIXELS", 40 * 24 - 1)

    with pytest.raises(ImageError, match="too large: 40 by 24 inside"):
        load_rgb(small)


@pytest.mark.parametrize("size", [(1, 1), (40, 24), (301, 65), (2000, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"subsampling": "4:4:4"}, {"exif": EXIF.tobytes()}, {"xmp": b"<x/>"}]
)
def test_the_size_inside_is_found(size: tuple[int, int], options: dict) -> None:
    for image in (noise(*size), noise(*size, 4)):  # with transparency, which is an item of its own
        data = encoded(image, "AVIF", speed=10, **options)
        sizes = [one for item in avif._items(data) for one in avif._sizes(item)]
        assert set(sizes) == {size}
        assert len(sizes) == (2 if image.mode == "RGBA" else 1)


def test_an_animation_is_named() -> None:
    data = encoded(noise(8, 8), "AVIF", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert Image.open(io.BytesIO(data)).n_frames == 2

    with pytest.raises(ImageError, match="AVIF of a kind that is not read: an animation"):
        load_rgb(data)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_header_is_pixels_or_a_sentence(place: int, value: int) -> None:
    data = bytearray(DATA)
    data[place % len(data)] = value

    with suppress(ImageError):
        assert load_rgb(bytes(data)).mode == "RGB"
