"""Pictures: what a person sees is what the encoder gets, or there is one clear reason why not."""

import errno
import io
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from pipeline import images
from pipeline.errors import ImageError
from pipeline.images import MAX_PIXELS, fit_crop, fit_whole, load_rgb

BICUBIC = Image.Resampling.BICUBIC


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(picture: Path | bytes | Image.Image) -> np.ndarray:
    image = load_rgb(picture)
    assert image.mode == "RGB"
    return np.asarray(image)


# What to do to an upright picture so that a viewer who obeys the tag undoes it.
STORED_AS = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


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
    if form == "32-bit TIFF":
        return encoded(Image.fromarray(values.astype(np.int32)), "TIFF")
    return encoded(Image.fromarray(values), form)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "big-endian TIFF", "32-bit TIFF"])
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
        (np.array([[0, 70000]], np.int32), "integers from 0 to 70000"),
        (np.array([[-1, 5]], np.int32), "integers from -1 to 5"),
    ],
)
def test_values_of_unknown_range_are_refused(values: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        load_rgb(encoded(Image.fromarray(values), "TIFF"))


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


def test_one_pixel_fills_what_the_encoder_sees() -> None:
    image = load_rgb(encoded(Image.new("RGB", (1, 1), (10, 20, 30))))

    for seen in (
        fit_whole(image, 42, resample=BICUBIC),
        fit_crop(image, size=42, shortest_edge=48, resample=BICUBIC),
    ):
        assert seen.shape == (42, 42, 3)
        assert (seen == [10, 20, 30]).all()


@pytest.mark.parametrize("tall", [False, True])
def test_20_000_by_10_is_squeezed_whole_or_cropped_in_the_middle(tall: bool) -> None:
    """Squeezing shows all of 100 bands; the crop shows the middle, where two bands meet."""
    bands = np.repeat(np.arange(0, 200, 2, dtype=np.uint8), 200)
    strip = np.broadcast_to(bands[None, :, None], (10, 20_000, 3))
    strip = strip.transpose(1, 0, 2) if tall else strip
    image = load_rgb(encoded(Image.fromarray(np.ascontiguousarray(strip))))

    squeezed = fit_whole(image, 100, resample=Image.Resampling.BOX)
    cropped = fit_crop(image, size=40, shortest_edge=40, resample=Image.Resampling.BOX)

    if tall:
        squeezed, cropped = squeezed.transpose(1, 0, 2), cropped.transpose(1, 0, 2)
    assert (squeezed == np.arange(0, 200, 2)[None, :, None]).all()
    assert (cropped[:, :20] == 98).all()
    assert (cropped[:, 20:] == 100).all()


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"\n<html><body>404", r"not an image \(starts with '<html><body>'"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        (b"\xff\xd8", "truncated or damaged.*JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not an image"),  # Pillow would start Ghostscript
        (b"\0" * 100, "not an image"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(ImageError, match=reason):
        load_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("form", ["PCX", "ICO", "EPS"])
def test_formats_off_the_list_are_refused(form: str) -> None:
    with pytest.raises(ImageError, match=r"not an image .*; read are JPEG, PNG"):
        load_rgb(encoded(noise(32, 32), form))


def test_a_file_that_is_not_there_or_not_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "to-folder.png").symlink_to(tmp_path)
    (tmp_path / "a.txt").write_text("a file where a folder should be")
    reasons = {
        tmp_path / "no.png": "the file is missing",
        tmp_path / "a.txt" / "a.png": "the file is missing",
        tmp_path / "dangling.png": "the file is missing",
        tmp_path: "it is a folder",
        tmp_path / "to-folder.png": "it is a folder",
        Path(os.devnull): "not a regular file",
        tmp_path / "loop": f"cannot be read ({os.strerror(errno.ELOOP)})",
    }
    for path, reason in reasons.items():
        with pytest.raises(ImageError) as caught:
            load_rgb(path)
        assert str(caught.value) == reason
    with pytest.raises(ImageError, match=r"^cannot be read \(.*null"):
        load_rgb(tmp_path / "a\0b")


def test_a_link_is_followed_to_its_picture(tmp_path: Path) -> None:
    """Links are the folder owner's; `pipeline/jsonl.py` refuses paths that leave the folder."""
    (tmp_path / "a.png").write_bytes(encoded(noise(6, 4)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.png").symlink_to("../a.png")

    assert np.array_equal(pixels(tmp_path / "data" / "link.png"), noise(6, 4))


def test_no_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise(2, 2)))

    def refuse(path: Path) -> bytes:  # chmod would not stop root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"^no permission to read the file$"):
        load_rgb(tmp_path / "a.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("place", ["a.png", "."])
def test_no_permission_for_file_or_folder_is_named(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(noise(2, 2)))
    (folder / place).chmod(0)
    try:
        with pytest.raises(ImageError, match=r"^no permission to read the file$"):
            load_rgb(folder / "a.png")
    finally:
        (folder / place).chmod(0o700)


@pytest.mark.timeout(10)
def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")

    (tmp_path / "link.png").symlink_to("a.png")
    for name in ("a.png", "link.png"):
        with pytest.raises(ImageError, match=r"^not a regular file$"):
            load_rgb(tmp_path / name)


# The last two bytes of these hold no pixels, and all others are there.
ENDS_WITHOUT_PIXELS = ("PNG", "GIF")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("kept", [2, 100, 0.5, 0.9, -2])
def test_a_cut_file_is_an_image_error_or_complete(form: str, kept: float) -> None:
    data = encoded(noise(64, 48), form)
    whole = pixels(data)
    cut = data[: int(len(data) * kept) if isinstance(kept, float) else kept]
    if kept == -2 and form in ENDS_WITHOUT_PIXELS:
        assert np.array_equal(pixels(cut), whole)
    else:
        with pytest.raises(ImageError, match=r"truncated or damaged|not an image"):
            load_rgb(cut)


def test_half_a_jpeg_is_never_filled_with_grey() -> None:
    data = encoded(noise(64, 48), "JPEG")

    with pytest.raises(ImageError, match="truncated"):
        load_rgb(data[: len(data) // 2])


@pytest.mark.parametrize("edge", [9500, 13500, 20000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(edge: int) -> None:
    bomb = encoded(Image.new("1", (edge, edge)))
    assert len(bomb) < 100_000

    with pytest.raises(ImageError, match=r"too large: .*limit is 50"):
        load_rgb(bomb)


def test_pillow_does_not_warn_of_sizes_that_are_checked_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_rgb(encoded(noise(6, 5)))

    assert not caught


def test_the_largest_allowed_picture_is_read() -> None:
    assert load_rgb(encoded(Image.new("1", (MAX_PIXELS // 5000, 5000)))).size == (10_000, 5000)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(10**12)  # sparse

    with pytest.raises(ImageError, match="too large: 1,000,000,000,000 bytes"):
        load_rgb(tmp_path / "a.png")


def test_no_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        load_rgb(Image.new("RGB", (0, 5)))


def test_bit_flips_end_in_pixels_or_an_image_error() -> None:
    rng = np.random.default_rng(0)
    for form in images.FORMATS:
        data = np.frombuffer(encoded(noise(24, 16), form), np.uint8)
        for _ in range(150):
            flipped = data.copy()
            flipped[rng.integers(min(len(data), 400))] ^= 1 << rng.integers(8)
            try:
                seen = pixels(flipped.tobytes())
            except ImageError:
                continue
            assert seen.ndim == 3


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


def processed(image: Image.Image, **settings: object) -> np.ndarray:
    """Return the pixels of the published processor before it rescales and normalises."""
    processor = BitImageProcessorPil(do_rescale=False, do_normalize=False, **settings)
    values = processor(image, return_tensors="np")["pixel_values"][0]
    return values.transpose(1, 2, 0)


SIZES = [(64, 48), (48, 64), (50, 50), (37, 101), (101, 37), (1, 1), (3, 3), (1, 40), (300, 7)]


@pytest.mark.parametrize("resample", [BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize("shape", SIZES)
def test_fit_whole_is_the_processor_without_crop(shape: tuple[int, int], resample: int) -> None:
    image = noise(*shape)

    expected = processed(
        image, size={"height": 42, "width": 42}, do_center_crop=False, resample=resample
    )

    seen = fit_whole(image, 42, resample=resample)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize(("edge", "size"), [(48, 42), (42, 42), (51, 28), (30, 42), (31, 42)])
@pytest.mark.parametrize("shape", SIZES)
def test_fit_crop_is_the_processor(shape: tuple[int, int], edge: int, size: int) -> None:
    image = noise(*shape)

    expected = processed(
        image, size={"shortest_edge": edge}, crop_size={"height": size, "width": size}, resample=3
    )

    seen = fit_crop(image, size=size, shortest_edge=edge, resample=3)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize(("edge", "size"), [(48, 42), (30, 42)])
@pytest.mark.parametrize("shape", [(20, 400), (400, 20), (17, 333)])
def test_a_strip_is_cropped_to_the_same_pixels_without_growing_whole(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], edge: int, size: int
) -> None:
    expected = fit_crop(noise(*shape), size=size, shortest_edge=edge, resample=3)
    monkeypatch.setattr(images, "MAX_PIXELS", 1)

    seen = fit_crop(noise(*shape), size=size, shortest_edge=edge, resample=3)

    # Pillow may swap its two passes, and clips between them: a few levels here and there.
    assert np.abs(seen.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1)])
def test_a_strip_of_1_by_5000_costs_no_gigabyte(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    made: list[int] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, *args: object, **kwargs: object) -> Image.Image:
        result = resize(self, *args, **kwargs)
        made.append(result.width * result.height)
        return result

    monkeypatch.setattr(Image.Image, "resize", watched)
    seen = fit_crop(noise(*shape), size=224, shortest_edge=256, resample=3)

    assert seen.shape == (224, 224, 3)
    assert made
    assert max(made) <= MAX_PIXELS
