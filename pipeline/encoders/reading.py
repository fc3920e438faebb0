"""How pictures are read: what a cache records of it, so that whoever asks later reads alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

from PIL import Image

from frozen_vqa.cache.typed_json import Json, UnfitValueError, decode
from frozen_vqa.pipeline.encoders.picture_files.levels import Window
from frozen_vqa.pipeline.errors import ModelError

LARGEST = 1e9
"""Of the values that a window may name."""

_Value = Annotated[float, (-LARGEST, LARGEST)]


@dataclass(frozen=True)
class Reading:
    """The settings of reading pictures; those of `Reading()` leave every picture as it is.

    Attributes:
        window: The values that become black and white in grey pictures of more than 8 bits; None
            for all values of 16 bits, or what a DICOM file itself names.
        jpeg_side: The least side in pixels of a JPEG whose decoder halves it, once or several
            times, by leaving out high frequencies; None decodes in full.
    """

    window: Window | None = None
    jpeg_side: int | None = None

    def reduce(self, image: Image.Image) -> None:
        """Let an opened JPEG be decoded at an eighth, a quarter or half of its size, if it may."""
        if self.jpeg_side and image.format in ("JPEG", "MPO"):
            image.draft(None, (self.jpeg_side, self.jpeg_side))

    def settings(self) -> dict[str, Any]:
        """Return what a cache records; of what is left as it is, nothing."""
        found: dict[str, Any] = {"window": list(self.window)} if self.window else {}
        return found | ({"jpeg side": self.jpeg_side} if self.jpeg_side else {})


_Vision = TypedDict(
    "_Vision",
    {
        "window": NotRequired[tuple[_Value, _Value]],
        "jpeg side": NotRequired[Annotated[int, (1, 2**16)]],
    },
)


def reading_of(vision: Mapping[str, Json]) -> Reading:
    """Return how pictures were read, by the settings of an image encoder.

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
