"""The rows of docs/bad-inputs.md about deep, medical and new kinds of pictures."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ImageError
from tests.support.bad_inputs import LEFT_OUT, STORED, Row
from tests.support.pictures import encoded, noise

TWELVE = np.array([[0, 2048, 4095]], np.uint16)
Window = tuple[float, float] | None


def grey(
    values: np.ndarray, form: str = "PNG", *, window: Window = None, shown: str = ""
) -> Callable[[Path], Row]:
    """A case of these values; `shown` is what the page says of the levels that come out."""
    return content(lambda: encoded(Image.fromarray(values), form), window=window, shown=shown)


def content(
    make: Callable[[], bytes], *, window: Window = None, shown: str = "", pydicom: bool = True
) -> Callable[[Path], Row]:
    def case(folder: Path) -> Row:
        (folder / "a.png").write_bytes(make())
        with pytest.MonkeyPatch.context() as patch:
            if not pydicom:
                patch.setitem(sys.modules, "pydicom", None)
            try:
                found = np.asarray(load_rgb(folder / "a.png", Reading(window)))
            except ImageError as error:
                return LEFT_OUT, str(error)
        levels = ", ".join(map(str, found[0, :3, 0]))
        return STORED, shown.format(levels)

    return case


def large_avif() -> bytes:
    data = bytearray(encoded(noise(16, 16), "AVIF"))
    place = data.index(b"ispe") + 8
    data[place : place + 8] = (9000).to_bytes(4, "big") * 2
    return bytes(data)


def small_blocks() -> bytes:
    return encoded(Image.new("L", (64, 64)), "JPEG2000", codeblock_size=(4, 4))


def started(start: bytes) -> Callable[[], bytes]:
    return lambda: start + bytes(400)


DEEP = "0, 2048 and 4095 become {}"
GREY_PICTURES: dict[str, Callable[[Path], Row]] = {
    "12 bits in a PNG of 16": grey(TWELVE, shown=f"{DEEP}; a warning names the 12 bits"),
    "the same, `--window 0 4095`": grey(TWELVE, window=(0, 4095), shown=DEEP),
    "the same, `--window 2048 2049`": grey(TWELVE, window=(2048, 2049), shown=DEEP),
    "float TIFF of -1000, 40 and 3000": grey(np.array([[-1000, 40, 3000]], np.float32), "TIFF"),
    "the same, `--window -160 240`": grey(
        np.array([[-1000, 40, 3000]], np.float32),
        "TIFF",
        window=(-160, 240),
        shown="-1000, 40 and 3000 become {}",
    ),
    "float TIFF with NaN, and a window": grey(
        np.array([[0, np.nan]], np.float32), "TIFF", window=(0, 1)
    ),
    "8-bit JPEG, and a window": content(
        lambda: encoded(Image.new("L", (8, 8), 77), "JPEG"),
        window=(0, 4095),
        shown="77 stays {}: a window is for more than 8 bits",
    ),
    "JPEG 2000": content(lambda: encoded(noise(9, 7), "JPEG2000"), shown="as PNG"),
    "JPEG 2000 of code blocks of 4 by 4": content(small_blocks),
    "JPEG 2000, cut": content(lambda: encoded(noise(9, 7), "JPEG2000")[:60]),
    "AVIF": content(lambda: encoded(noise(9, 7), "AVIF"), shown="as JPEG"),
    "AVIF of 81 megapixels": content(large_avif),
    "animated AVIF": content(
        lambda: encoded(
            noise(8, 8), "AVIF", save_all=True, append_images=[Image.new("RGB", (8, 8))]
        )
    ),
    "DICOM without pydicom": content(started(bytes(128) + b"DICM"), pydicom=False),
    "HEIC": content(started(b"\0\0\0\x18ftypheic")),
    "video": content(started(b"\0\0\0\x18ftypmp42")),
    "AVI": content(started(b"RIFF\0\0\0\0AVI LIST")),
    "sound": content(started(b"RIFF\0\0\0\0WAVEfmt ")),
    "NIfTI": content(lambda: bytes(344) + b"n+1\0" + bytes(40)),
    "HDF5": content(started(b"\x89HDF\r\n\x1a\n")),
    "raw picture of a camera": content(started(b"\0\0\0\x18ftypcrx ")),
}
