"""Pictures of every mode, depth and orientation: what a person sees is what is read."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from tests.support.bad_orientations import STORED_AS
from tests.support.pictures import encoded, noise, pixels


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_each_exif_orientation_is_turned_upright_once(orientation: int, form: str) -> None:
    upright = np.asarray(noise(3, 2).resize((48, 32), Image.Resampling.NEAREST))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](upright)))
    options = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100}}[form]

    seen = pixels(encoded(stored, form, exif=exif, **options))

    assert seen.shape == upright.shape
    if form == "JPEG":  # only the middle of each block is free of ringing
        assert np.abs(seen[8::16, 8::16].astype(int) - upright[8::16, 8::16]).max() < 12
    else:
        assert np.array_equal(seen, upright)


def test_a_pil_image_with_exif_is_turned_too_and_not_changed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(noise(5, 3), exif=exif)))

    assert load_rgb(image).size == (3, 5)
    assert image.size == (5, 3)


def test_damaged_exif_does_not_cost_the_picture() -> None:
    picture = noise(5, 3)

    assert np.array_equal(pixels(encoded(picture, exif=b"Exif\0\0II*\0garbage")), picture)


def transparent_in_each_mode() -> dict[str, bytes]:
    rgba = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 200, 0))
    grey = Image.new("LA", (2, 1), (90, 255))
    grey.putpixel((1, 0), (10, 0))
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.putpixel((1, 0), 1)
    rgb = Image.new("RGB", (2, 1), (200, 0, 0))
    rgb.putpixel((1, 0), (0, 0, 200))
    return {
        "RGBA": encoded(rgba),
        "RGBA in WebP": encoded(rgba, "WEBP", lossless=True, exact=True),
        "LA": encoded(grey),
        "P": encoded(palette, transparency=1),
        "P with alpha per colour": encoded(palette, transparency=b"\xff\x00"),
        "P in GIF": encoded(palette, "GIF", transparency=1),
        "RGB with a key colour": encoded(rgb, transparency=(0, 0, 200)),
        "L with a key colour": encoded(grey.convert("L"), transparency=10),
    }


@pytest.mark.parametrize("mode", transparent_in_each_mode())
def test_transparent_becomes_white_and_opaque_stays(mode: str) -> None:
    seen = pixels(transparent_in_each_mode()[mode])

    assert seen[0, 1].tolist() == [255, 255, 255]
    assert seen[0, 0].tolist() in ([200, 0, 0], [90, 90, 90])


def test_half_transparent_is_mixed_with_white() -> None:
    assert pixels(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128))))[0, 0].tolist() == [127] * 3


def gradient_16(form: str) -> bytes:
    values = np.linspace(0, 65535, 600).round().astype(np.uint16).reshape(20, 30)
    if form == "big-endian TIFF":
        image = Image.frombytes("I;16B", (30, 20), values.astype(">u2").tobytes())
        return encoded(image, "TIFF")
    return encoded(Image.fromarray(values), form)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "big-endian TIFF"])
def test_a_16_bit_gradient_stays_a_gradient(form: str) -> None:
    seen = pixels(gradient_16(form)).astype(int)
    levels = seen[..., 0].ravel()

    assert (np.diff(levels) >= 0).all()
    assert np.abs(levels - np.linspace(0, 255, 600)).max() <= 0.51
    assert (seen == seen[..., :1]).all()


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_values_in_a_known_range_are_scaled(top: float) -> None:
    values = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)

    seen = pixels(encoded(Image.fromarray(values), "TIFF"))

    assert seen[..., 1].ravel().tolist() == list(range(256))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[0.0, np.nan]], np.float32), "not finite"),
        (np.array([[0.0, np.inf]], np.float32), "not finite"),
        (np.array([[0.0, 300.0]], np.float32), "float values from 0 to 300"),
        (np.array([[-0.5, 1.0]], np.float32), r"float values from -0\.5 to 1"),
    ],
)
def test_values_of_unknown_range_are_refused(values: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        load_rgb(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("values", [(0, 70000), (-1, 5)])
def test_integers_beyond_16_bits_of_a_pil_image_are_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"integers from {values[0]} to {values[1]}; 0 to 65,535"):
        load_rgb(Image.fromarray(np.array([values], np.int32)))


@pytest.mark.parametrize(
    ("mode", "form"),
    [("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("RGB", "BMP")],
)
def test_other_modes_become_the_rgb_that_pillow_shows(mode: str, form: str) -> None:
    image = noise(7, 5).convert(mode)
    data = encoded(image, form)

    assert np.array_equal(pixels(data), Image.open(io.BytesIO(data)).convert("RGB"))
    assert pixels(data).std() > 20  # and is no flat grey


def test_a_cmyk_jpeg_has_the_colours_of_its_inks() -> None:
    """Adobe's readers expect the inks inverted in the file, and Pillow turns them back."""
    inks = Image.new("CMYK", (32, 16), (0, 255, 255, 0))
    inks.paste((255, 255, 0, 0), (16, 0, 32, 16))

    seen = pixels(encoded(inks, "JPEG", quality=100)).astype(int)

    assert np.abs(seen[:, :16] - [255, 0, 0]).max() <= 2
    assert np.abs(seen[:, 16:] - [0, 0, 255]).max() <= 2


def test_a_grey_picture_has_three_equal_channels() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(8, 32)

    assert np.array_equal(pixels(encoded(Image.fromarray(grey))), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "MPO"])
def test_the_first_frame_of_an_animation_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])

    assert np.abs(pixels(data).astype(int) - [255, 0, 0]).max() <= 2


def test_pil_images_and_files_give_the_same_pixels(tmp_path: Path) -> None:
    image = noise(6, 4, 4)
    (tmp_path / "a.png").write_bytes(encoded(image))

    from_file = pixels(tmp_path / "a.png")

    assert np.array_equal(pixels(image), from_file)
    assert np.array_equal(pixels(encoded(image)), from_file)


def test_a_name_that_says_another_format_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(noise(6, 4)))

    assert np.array_equal(pixels(tmp_path / "a.jpg"), noise(6, 4))


def test_threads_may_load_at_once() -> None:
    data = [encoded(noise(8 + i, 9), form) for i in range(20) for form in ("PNG", "JPEG")]
    sizes: dict[int, tuple[int, int]] = {}

    def load(number: int) -> None:
        sizes[number] = load_rgb(data[number]).size

    threads = [threading.Thread(target=load, args=[n]) for n in range(len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [sizes[n] for n in range(len(data))] == [(8 + n // 2, 9) for n in range(len(data))]
