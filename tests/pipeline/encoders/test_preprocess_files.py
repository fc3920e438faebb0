"""Files that are no picture, damaged, locked or too large: there is one clear reason why not."""

import errno
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.pipeline.encoders import preprocess as images
from frozen_vqa.pipeline.encoders.picture_files.budget import MAX_PIXELS
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from tests.support.pictures import encoded, noise, pixels
from tests.support.raw_pictures import black_png


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"\n<html><body>404", "not an image but HTML;"),
        (b"s3cr3t-w0rd", "not an image but text;"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        (b"\xff\xd8", "truncated or damaged.*JPEG"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0",
            "not an image but PostScript;",
        ),  # Pillow would start Ghostscript
        (b"\0" * 100, "not an image but binary data;"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(ImageError, match=reason):
        load_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("form", ["PCX", "ICO", "EPS"])
def test_formats_off_the_list_are_refused(form: str) -> None:
    with pytest.raises(ImageError, match=r"not an image .*; the formats are JPEG, PNG"):
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
    """Links are the folder owner's; `own/pictures.py` refuses paths that leave the folder."""
    (tmp_path / "a.png").write_bytes(encoded(noise(6, 4)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.png").symlink_to("../a.png")

    assert np.array_equal(pixels(tmp_path / "data" / "link.png"), noise(6, 4))


def test_no_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise(2, 2)))

    def refuse(path: Path, *, most: int) -> bytes:  # chmod would not stop root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(images, "read_file", refuse)
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
    bomb = black_png(edge)
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

    with pytest.raises(ImageError, match="too large: more than 500,000,000 bytes"):
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
