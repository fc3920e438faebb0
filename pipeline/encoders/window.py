"""The window of grey values in the settings of a cache or a run."""

from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict

from frozen_vqa.cache.typed_json import Json, UnfitValueError, decode
from frozen_vqa.pipeline.encoders.picture_files.levels import Window
from frozen_vqa.pipeline.errors import ModelError

LARGEST = 1e9
"""Of the values that a window may name."""

_Value = Annotated[float, (-LARGEST, LARGEST)]


class _Vision(TypedDict):
    window: NotRequired[tuple[_Value, _Value]]


def window_settings(window: Window | None) -> dict[str, Json]:
    """Return what a cache records of a window; without one it records nothing."""
    return {"window": list(window)} if window else {}


def window_of(vision: Mapping[str, Json]) -> Window | None:
    """Return the window in the settings of an image encoder; raise `ModelError` if it is none."""
    try:
        low, high = decode(_Vision, vision).get("window", (0.0, 1.0))
        if not low < high:
            raise UnfitValueError(
                f"{low:g} to {high:g}", "a lower value and a higher one", "window"
            )
    except UnfitValueError as error:
        raise ModelError(f"the settings of the image encoder: {error}") from None
    return (float(low), float(high)) if "window" in vision else None
