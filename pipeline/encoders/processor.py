"""What a model's preprocessor_config.json does to a picture, and which of it is followed.

    resize (shortest edge, or squeeze to a square) ── centre crop ── x factor ── (x - mean) / std

Each step has a switch in the file. The numbers are those of transformers' image processor (PIL
backend); what it does beyond these steps is refused by name, because features of other pixels look
like good ones.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.Image import Resampling

from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint, loading, quiet_transformers
from frozen_vqa.pipeline.encoders.preprocess import fit_crop
from frozen_vqa.pipeline.errors import ModelError, reason_of

SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad")
FOLLOWED = {
    *SWITCHES,
    *("size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "pad_size"),
    # These change nothing here: every picture is RGB, and the rest is about calls and storage.
    *("do_convert_rgb", "default_to_square", "image_processor_type", "feature_extractor_type"),
    *("processor_class", "data_format", "input_data_format", "return_tensors", "device"),
    *("disable_grouping", "image_seq_length"),
}
NEEDS_TORCHVISION: Mapping[str, Mapping[str, Any]] = {
    "DINOv3ViTImageProcessor": {
        **dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True),
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "image_mean": (0.485, 0.456, 0.406),
        "image_std": (0.229, 0.224, 0.225),
    }
}
"""Processors that transformers has for torchvision alone, and what their files may leave out.

The one of DINOv3 resizes numbers that are no longer whole, so it differs by a rounding.
"""
SIZES = ({"shortest_edge"}, {"height", "width"})
USUAL_EDGE = 8 / 7
"""What the shorter edge is resized to, for each pixel that is cut out: DINOv2 has 256 for 224."""
STEPS = (
    *("preprocess", "_preprocess", "_preprocess_image_like_inputs", "process_image", "resize"),
    *("center_crop", "rescale", "normalize", "convert_to_rgb"),
)
"""Methods that a class of image processors may replace, and that are followed as they are."""


@dataclass(frozen=True)
class Processor:
    """The steps of a preprocessor that are followed.

    Attributes:
        shortest_edge: What the shorter edge is resized to, with the aspect kept; None if it is not.
        square: The side that a picture is squeezed to; None if it is not.
        crop: The side of the square that is cut out of the middle; None if nothing is cut.
        factor: What pixels of 0 to 255 are multiplied by; 1 without rescaling.
        mean, std: For red, green and blue; 0 and 1 without normalisation.
    """

    name: str
    shortest_edge: int | None
    square: int | None
    crop: int | None
    resample: Resampling
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def side(self) -> int | None:
        """The side of the square that the model sees, or None if it depends on the picture."""
        return self.crop or self.square

    def require_square(self) -> None:
        """Raise `ModelError` if pictures come out in different sizes."""
        if self.side is None:
            why = "keeps the aspect" if self.shortest_edge else "is off"
            needed = f"true, since do_resize {why}"
            raise _refused(self.name, "do_center_crop", False, needed, "use --fit whole")

    def least_side(self, size: int) -> int | None:
        """Return what `fit` resizes the shorter edge to; None if it keeps the picture's size."""
        return max(filter(None, self._resized(size)), default=None)

    def _resized(self, size: int) -> tuple[int | None, int | None]:
        """Return `square` and `shortest_edge`, scaled so that `size` comes out of `fit`."""
        assert self.side is not None
        square, edge = (
            None if own is None else round(own * size / self.side)
            for own in (self.square, self.shortest_edge)
        )
        return square, edge

    def fit(self, image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
        """Resize and cut one RGB picture, all sizes scaled so that `size` comes out of it."""
        square, edge = self._resized(size)
        if square:
            image = image.resize((square, square), resample=self.resample)
        return fit_crop(image, size=size, shortest_edge=edge, resample=self.resample)

    def settings(self, *, whole: bool, size: int) -> dict[str, Any]:
        """What changes the numbers; what few preprocessors have stands there only for them.

        `size` is the side of the square that comes out of `fit`; a whole picture has any shape.
        """
        found: dict[str, Any] = {
            "mean": list(self.mean),
            "std": list(self.std),
            "resample": int(self.resample),
        }
        if self.factor != 1 / 255:
            found["rescale factor"] = self.factor
        if not whole:
            _, edge = self._resized(size)
            if edge is None:
                found["resize"] = "a square" if self.square else "off"
            elif edge != round(size * USUAL_EDGE):
                found["resize"] = edge
        return found


def load_processor(checkpoint: Checkpoint, name: str) -> Processor:
    """Load the preprocessor of a model; `ModelError` if it is missing or more than is followed."""
    from transformers import AutoImageProcessor
    from transformers.image_processing_backends import PilBackend
    from transformers.image_processing_base import ImageProcessingMixin

    checkpoint.fetch("preprocessor_config.json", ["processor_config.json"])
    with loading(name):
        given, _ = ImageProcessingMixin.get_image_processor_dict(
            checkpoint.folder, **checkpoint.options
        )
        if not isinstance(given, dict):
            raise ValueError("its preprocessor_config.json holds no object")
    for key, value in given.items():
        empty = value is None or value is False
        if key not in FOLLOWED and not key.startswith("_") and not empty:
            raise _refused(name, key, value, "a file without this key")
        if key in ("size", "crop_size") and not _is_size(value):
            raise _refused(name, key, value, "a number, shortest_edge, or height and width")
    kind = str(given.get("image_processor_type")).removesuffix("Fast")
    try:
        with quiet_transformers():
            if kind in NEEDS_TORCHVISION:
                found: Any = PilBackend.from_dict({**NEEDS_TORCHVISION[kind], **given})
            else:
                # The backend is named because torchvision, if installed, resizes differently.
                found = AutoImageProcessor.from_pretrained(
                    checkpoint.folder, **checkpoint.options, backend="pil"
                )
    except Exception as error:  # its constructors raise nearly any class
        text = f"{name}: its preprocessor_config.json cannot be read ({reason_of(error)})"
        raise ModelError(text) from error
    if any(getattr(type(found), step, None) is not getattr(PilBackend, step) for step in STEPS):
        kind = type(found).__name__.removesuffix("Pil")
        needed = "BitImageProcessor, or one that does the same steps"
        raise _refused(name, "image_processor_type", kind, needed)
    return read_processor(vars(found), name)


def read_processor(values: Mapping[str, Any], name: str) -> Processor:
    """Return the steps that the attributes of a processor name, or raise `ModelError`."""
    on = {}
    for switch in SWITCHES:
        on[switch] = values.get(switch) or False
        if not isinstance(on[switch], bool):
            raise _refused(name, switch, values[switch], "true or false")
    if on["do_pad"]:
        raise _refused(name, "do_pad", True, "false")
    shortest = square = crop = None
    if on["do_resize"]:
        shortest, square = _edges(values, "size", name)
    if on["do_center_crop"]:
        edge, crop = _edges(values, "crop_size", name)
        if edge is not None:
            raise _refused(name, "crop_size", dict(values["crop_size"]), "height and width")
    factor = values.get("rescale_factor") if on["do_rescale"] else 1
    if not (_number(factor) and factor):
        raise _refused(name, "rescale_factor", factor, "a number other than 0")
    mean, std = (
        _three(values, key, name) if on["do_normalize"] else (none,) * 3
        for key, none in (("image_mean", 0.0), ("image_std", 1.0))
    )
    resample: Any = values.get("resample")
    if isinstance(resample, bool) or resample not in range(6):
        raise _refused(name, "resample", resample, "an integer from 0 to 5")
    return Processor(name, shortest, square, crop, Resampling(resample), float(factor), mean, std)


def _is_size(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) in SIZES
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value is None or whole or (isinstance(value, list) and len(value) == 2)


def _edges(values: Mapping[str, Any], key: str, name: str) -> tuple[int | None, int | None]:
    """Return the shortest edge and the side of a square; one of them is None."""
    found = dict(values.get(key) or {})
    edges = list(found.values())
    if not edges or not all(type(edge) is int and 0 < edge < 2**20 for edge in edges):
        raise _refused(name, key, found or None, "whole numbers above 0")
    if len(set(edges)) > 1:
        raise _refused(name, key, found, "a height equal to its width")
    return (edges[0], None) if set(found) == {"shortest_edge"} else (None, edges[0])


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -1e30 < value < 1e30


def _three(values: Mapping[str, Any], key: str, name: str) -> tuple[float, ...]:
    found = values.get(key)
    numbers = list(found) if isinstance(found, list | tuple) else [found] * 3
    zero = key == "image_std" and 0 in numbers
    if len(numbers) != 3 or zero or not all(map(_number, numbers)):
        needed = "one number or three" + (", none of them 0" if key == "image_std" else "")
        raise _refused(name, key, found, needed)
    return tuple(float(number or 0) for number in numbers)


def _refused(name: str, key: str, value: Any, needed: str, advice: str = "") -> ModelError:
    text = json.dumps(value, default=repr)
    text = text if len(text) <= 100 else f"{text[:97]}..."
    advice = advice or "take another model, or change that in a copy of its folder"
    return ModelError(
        f"{name}: its preprocessor_config.json has {key} {text}, which is not followed. "
        f"Needed is {needed}; {advice}"
    )
