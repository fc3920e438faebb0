"""The rows of docs/bad-inputs.md about pictures: a case for each makes one and reads it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from frozen_vqa.pipeline.encoders import preprocess
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import LEFT_OUT, STORED, Row
from tests.support.pictures import encoded
from tests.support.raw_pictures import black_png

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(mode: str = "RGB", size: tuple[int, int] = (32, 16)) -> Image.Image:
    """A picture, the left half red and the right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def picture(content: bytes | Image.Image, sentence: str = "", *, close_to: Any = None) -> Any:
    """A case of a file with this content; `sentence` is what the page says of a stored one."""

    def make(folder: Path) -> Row:
        data = content if isinstance(content, bytes) else encoded(content)
        (folder / "a.jpg").write_bytes(data)
        return seen(folder, sentence, close_to)

    return make


def seen(folder: Path, sentence: str = "", close_to: Any = None) -> Row:
    try:
        found = load_rgb(folder / "a.jpg")
    except ImageError as error:
        return LEFT_OUT, str(error)
    expected = np.broadcast_to(np.asarray(close_to, dtype=int), (*found.size[::-1], 3))
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found).astype(int) - expected).max() <= 2
    return STORED, sentence


def no_permission(folder: Path) -> Row:
    def refuse(path: Path, *, most: int) -> bytes:  # chmod would not stop root
        raise PermissionError(13, "Permission denied", str(path))

    (folder / "a.jpg").write_bytes(encoded(halves()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocess, "read_file", refuse)
        return seen(folder)


def placed(place: Callable[[Path], None], sentence: str = "", close_to: Any = None) -> Any:
    """A case of what `place` puts at a path."""

    def make(folder: Path) -> Row:
        place(folder / "a.jpg")
        return seen(folder, sentence, close_to)

    return make


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(600_000_000)  # sparse


def outside(path: Path) -> None:
    (path.parent.parent / "other.png").write_bytes(encoded(halves()))
    path.symlink_to("../other.png")


def of_hub(image: str | None) -> Any:
    """A case of a parquet row with this in place of a picture."""

    def make(folder: Path) -> Row:
        columns = {"question": ["q?"], "answers": ["x"], "image_id": [1]}
        table = pa.table(columns).append_column("image", pa.array([image], pa.string()))
        pq.write_table(table, folder / "train.parquet")
        source = open_source(f"hub:{folder}")
        source.examples("train")
        with pytest.raises(ImageError) as caught:
            source.picture(1)
        return LEFT_OUT, str(caught.value)

    return make


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(halves().transpose(Image.Transpose.ROTATE_90), exif=exif)


def grey_16() -> Image.Image:
    return Image.fromarray(np.array([[0, 257, 65535]], np.uint16))


GREY = np.array([[[0] * 3, [1] * 3, [255] * 3]])
SIDES = np.array(halves())

PICTURES: dict[str, Callable[[Path], Row]] = {
    "truncated JPEG": picture(encoded(halves(), "JPEG")[:-40]),
    "zero-byte file": picture(b""),
    "text named `.jpg`": picture(b"hello, world\n"),
    "git-lfs pointer": picture(b"version https://git-lfs.github.com/spec/v1\n"),
    "PNG named `.jpg`": picture(halves(), "the name does not matter", close_to=SIDES),
    "decompression bomb of 90 megapixels": picture(black_png(9500)),
    "decompression bomb of 400 megapixels": picture(black_png(20000)),
    "file of more than 500 MB": placed(huge),
    "1 by 1": picture(Image.new("RGB", (1, 1), RED), "one colour everywhere", close_to=RED),
    "20,000 by 10": picture(
        halves(size=(20000, 10)),
        "the whole of it, squeezed to a square",
        close_to=np.array(halves(size=(20000, 10))),
    ),
    "grayscale": picture(
        Image.new("L", (4, 4), 90), "equal red, green and blue", close_to=(90, 90, 90)
    ),
    "CMYK JPEG": picture(
        encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100),
        "as RGB",
        close_to=RED,
    ),
    "RGBA": picture(
        Image.new("RGBA", (4, 4), (255, 0, 0, 0)),
        "transparent becomes white",
        close_to=(255, 255, 255),
    ),
    "palette": picture(halves("P"), "the colours of the palette", close_to=SIDES),
    "16-bit": picture(grey_16(), "65,535 becomes 255", close_to=GREY),
    "float TIFF, 0 to 1 or 0 to 255": picture(
        encoded(Image.fromarray(np.array([[0, 1 / 255, 1]], np.float32)), "TIFF"),
        "the largest becomes 255",
        close_to=GREY,
    ),
    "float TIFF of another range": picture(
        encoded(Image.fromarray(np.array([[0, 300]], np.float32)), "TIFF")
    ),
    "float TIFF with NaN": picture(
        encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF")
    ),
    "animated GIF": picture(
        encoded(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", (32, 16))]),
        "its first frame",
        close_to=SIDES,
    ),
    "EXIF-rotated": picture(turned(), "turned upright", close_to=SIDES),
    "folder": placed(Path.mkdir),
    "no read permission": no_permission,
    "missing file": placed(lambda path: None),
    "dangling link": placed(lambda path: path.symlink_to("nowhere.png")),
    "link to itself": placed(lambda path: path.symlink_to(path)),
    "link to a picture outside the data folder": placed(
        outside, "followed, because the folder's owner put it there", SIDES
    ),
    "named pipe": placed(os.mkfifo),
    "`hub:` a path that leaves the data folder": of_hub("../a.png"),
    "`hub:` an address": of_hub("https://example.org/a.png"),
    "`hub:` a row without picture": of_hub(None),
}
