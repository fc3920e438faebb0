"""How pictures are read, and to which size: what a cache records, so that others read alike."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from PIL import Image

from frozen_vqa.cache.typed_json import Json, UnfitValueError, decode
from frozen_vqa.pipeline.encoders.picture_files.levels import Window
from frozen_vqa.pipeline.errors import ModelError

LARGEST = 1e9
"""Of the values that a window may name."""

LONGEST_SIDE = 2**16

_SIDES = re.compile(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", re.ASCII)

_Value = Annotated[float, (-LARGEST, LARGEST)]


def sides_of(size: int | str) -> tuple[int, int]:
    """Return the height and the width in pixels that a size names, such as 518 or "336x448".

    Raises:
        ModelError: if it names none.
    """
    if isinstance(size, int):
        return size, size
    found = _SIDES.fullmatch(size)
    if not found:
        raise ModelError(
            f"{size!r:.40} is not a size of pictures; give the side of a square, such as 518, or "
            f"height x width, such as 336x448"
        )
    return int(found[1]), int(found[2] or found[1])


def size_of(sides: tuple[int, int]) -> int | str:
    """Return how a cache records a height and a width: a number if they are equal."""
    height, width = sides
    return height if height == width else f"{height}x{width}"


@dataclass(frozen=True)
class Reading:
    """The settings of reading pictures; those of `Reading()` leave every picture as it is.

    Attributes:
        window: The values that become black and white in grey pictures of more than 8 bits; None
            for all values of 16 bits, or what a DICOM file itself names.
        jpeg_side: The least side in pixels of a JPEG whose decoder halves it, once or several
            times, by leaving out high frequencies; None decodes in full.
        gpu: The GPU that decodes and resizes JPEGs of the usual kind; None leaves them to Pillow.
    """

    window: Window | None = None
    jpeg_side: int | None = None
    gpu: str | None = None

    def reduce(self, image: Image.Image) -> None:
        """Let an opened JPEG be decoded at an eighth, a quarter or half of its size, if it may."""
        if self.jpeg_side and image.format in ("JPEG", "MPO"):
            image.draft(None, (self.jpeg_side, self.jpeg_side))

    def settings(self) -> dict[str, Any]:
        """Return what a cache records; of what is left as it is, nothing."""
        found: dict[str, Any] = {"window": list(self.window)} if self.window else {}
        found |= {"jpeg side": self.jpeg_side} if self.jpeg_side else {}
        return found | ({"jpeg decoder": "nvjpeg"} if self.gpu else {})


_Vision = TypedDict(
    "_Vision",
    {
        "window": NotRequired[tuple[_Value, _Value]],
        "jpeg side": NotRequired[Annotated[int, (1, LONGEST_SIDE)]],
        "jpeg decoder": NotRequired[Literal["nvjpeg"]],
    },
)


def recorded_sides(vision: Mapping[str, Json]) -> tuple[int, int]:
    """Return the height and the width of pictures, by the settings of an image encoder.

    Raises `ModelError` if these are not what `size_of` writes.
    """
    size = vision.get("image size")
    if type(size) is int or isinstance(size, str):
        with suppress(ModelError):
            sides = sides_of(size)
            if size_of(sides) == size and all(0 < side <= LONGEST_SIDE for side in sides):
                return sides
    raise ModelError(
        f"the settings of the image encoder: image size is {size!r:.40}, and pixels of a side, or "
        f"height x width such as '336x448', are needed"
    )


def reading_of(vision: Mapping[str, Json]) -> Reading:
    """Return how pictures were read, by the settings of an image encoder, but for a GPU's JPEGs.

    Pillow decodes what is asked about one picture, where there may be no GPU.

    Raises `ModelError` if these say what cannot be.
    """
    try:
        found = decode(_Vision, vision)
        low, high = found.get("window", (0.0, 1.0))
        if not low < high:
            raise UnfitValueError(
                f"{low:g} to {high:g}", "a lower value and a higher one", "window"
            )
    except UnfitValueError as error:
        raise ModelError(f"the settings of the image encoder: {error}") from None
    window = (float(low), float(high)) if "window" in found else None
    return Reading(window, found.get("jpeg side"))
