"""The rows of docs/bad-inputs.md about preprocessor_config.json: what is followed, what is not.

What is followed gives the numbers of transformers' own image processor for the same file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor

from frozen_vqa.pipeline.encoders.checkpoint import quiet_transformers
from frozen_vqa.pipeline.encoders.image_encoder import Fit, ImageEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support.bad_inputs import REFUSED, STORED, Row
from tests.support.pictures import noise

PATCH, OWN = 14, 28
DINOV2: dict[str, Any] = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 32},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": OWN, "width": OWN},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_convert_rgb": True,
}
"""The file of the published DINOv2, of smaller sizes."""


def write_model(folder: Path, file: Any) -> Path:
    """Write a DINOv2 without weights and this preprocessor_config.json."""
    folder.mkdir(exist_ok=True)
    config = {"model_type": "dinov2", "hidden_size": 8, "num_attention_heads": 1}
    (folder / "config.json").write_text(
        json.dumps(config | {"image_size": 42, "patch_size": PATCH})
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(file))
    return folder


def ours(encoder: ImageEncoder, image: Image.Image) -> np.ndarray:
    return encoder.normalised(encoder.pixels(image)[None])[0].numpy()


def theirs(folder: Path, image: Image.Image, fit: Fit, side: int) -> np.ndarray:
    """Return what transformers does with this file; to "whole" its resize and crop are given."""
    whole = {"do_resize": True, "size": {"height": side, "width": side}, "do_center_crop": False}
    with quiet_transformers():
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        values = processor(image, return_tensors="np", **(whole if fit == "whole" else {}))
    return cast(np.ndarray, values["pixel_values"][0])


def require_theirs(folder: Path, fit: Fit, image: Image.Image) -> ImageEncoder:
    """Return the encoder of this folder, whose input is the one of transformers."""
    encoder = ImageEncoder(str(folder), fit=fit)
    expected = theirs(folder, image, fit, encoder.image_size)
    found = ours(encoder, image)
    assert found.shape == expected.shape
    scale = max(1, float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= 1e-5 * scale
    return encoder


def processor(fit: Fit = "crop", sentence: str = "", **changes: Any) -> Callable[[Path], Row]:
    """A case of DINOv2's file with changes; a key that is ... is left out."""

    def make(folder: Path) -> Row:
        file = {key: value for key, value in (DINOV2 | changes).items() if value is not ...}
        model = write_model(folder / "dinov2", file)
        try:
            require_theirs(model, fit, noise(40, 33))
        except ModelError as error:
            return REFUSED, str(error)
        assert sentence
        return STORED, sentence

    return make


def refused_twice(**changes: Any) -> Callable[[Path], Row]:
    """A case that --fit whole refuses as well."""

    def make(folder: Path) -> Row:
        rows = {processor(fit, **changes)(folder) for fit in ("whole", "crop")}
        assert len(rows) == 1
        return rows.pop()

    return make


def not_an_object(folder: Path) -> Row:
    model = write_model(folder / "dinov2", [])
    with pytest.raises(ModelError) as caught:
        ImageEncoder(str(model))
    return REFUSED, str(caught.value)


SQUARE = {"height": 42, "width": 42}
NO_CROP = {"do_center_crop": False, "crop_size": ...}

FOLLOWED: dict[str, Callable[[Path], Row]] = {
    "published": processor("crop", "resized, cut, rescaled, normalised"),
    "`do_resize` false": processor("crop", "cut without resizing", do_resize=False),
    "`do_resize` false, `--fit whole`": processor(
        "whole", "squeezed to the square, as --fit says", do_resize=False
    ),
    "`do_rescale` false": processor("crop", "0 to 255 are normalised", do_rescale=False),
    "`do_normalize` false": processor("crop", "0 to 1", do_normalize=False),
    "`do_rescale` and `do_normalize` false": processor(
        "whole", "0 to 255", do_rescale=False, do_normalize=False
    ),
    "`do_center_crop` false, height and width": processor(
        "crop", "squeezed to that square", size=SQUARE, **NO_CROP
    ),
    "`do_center_crop` false, though `crop_size` stands there": processor(
        "whole", "the square of `size`", size=SQUARE, do_center_crop=False
    ),
    "`do_center_crop` false, shortest edge, `--fit whole`": processor(
        "whole", "the square of config.json", do_center_crop=False
    ),
    "height and width, then a crop": processor("crop", "squeezed, then cut", size=SQUARE),
    "crop larger than what is resized": processor(
        "crop", "black around it", crop_size={"height": 56, "width": 56}
    ),
    "`size` a number": processor("crop", "the shortest edge", size=36),
    "`size` a number that means a square": processor(
        "crop", "the square's side", size=42, image_processor_type="ViTImageProcessor", **NO_CROP
    ),
    "`size` a list": processor("crop", "height and width", size=[42, 42], **NO_CROP),
    "`crop_size` a number": processor("crop", "the square's side", crop_size=OWN),
    "`crop_size` a list": processor("crop", "height and width", crop_size=[OWN, OWN]),
    "`rescale_factor` 1/127.5": processor("crop", "0 to 2", rescale_factor=1 / 127.5),
    "`image_mean` and `image_std` one number": processor(
        "crop", "for all channels", image_mean=0.5, image_std=0.5
    ),
    "`do_convert_rgb` false": processor("crop", "every picture is RGB", do_convert_rgb=False),
    "switch null": processor("crop", "off", do_normalize=None),
    "switch left out": processor("crop", "as its kind of processor has it", do_normalize=...),
    "unknown key that is false": processor("crop", "nothing to do", do_thumbnail=False),
    "another kind of the same steps": processor(
        "crop", "as the published one", image_processor_type="CLIPImageProcessor"
    ),
    **{
        f"`resample` {number}": processor("crop", f"{name} filter", resample=number)
        for number, name in enumerate(
            ("the nearest pixel, no", "Lanczos", "bilinear", "bicubic", "box", "Hamming")
        )
    },
}

NOT_FOLLOWED: dict[str, Callable[[Path], Row]] = {
    "no JSON object": not_an_object,
    "shortest edge without a crop": processor(do_center_crop=False),
    "neither resized nor cut": processor(do_resize=False, do_center_crop=False),
    "`do_pad` true": refused_twice(do_pad=True, pad_size=SQUARE),
    "unknown key": refused_twice(crop_pct=0.875),
    "code of its own": refused_twice(auto_map={"AutoImageProcessor": "code.Own"}),
    "kind with other steps": refused_twice(image_processor_type="ConvNextImageProcessor"),
    "kind that transformers does not know": refused_twice(image_processor_type="NoProcessor"),
    "switch that is text": refused_twice(do_normalize="no"),
    "switch that is a number": refused_twice(do_rescale=1),
    "`size` without a known key": refused_twice(size={"edge": 32}),
    "`size` with a longest edge": refused_twice(size={"shortest_edge": 32, "longest_edge": 64}),
    "`size` of pixels": refused_twice(size={"min_pixels": 9, "max_pixels": 99}),
    "`size` not square": refused_twice(size={"height": 28, "width": 42}, **NO_CROP),
    "`size` 0": refused_twice(size=0),
    "`size` negative": refused_twice(size={"shortest_edge": -1}),
    "`size` of text": refused_twice(size={"shortest_edge": "32"}),
    "`size` true": refused_twice(size=True),
    "`size` a fraction": refused_twice(size=32.5),
    "`size` a list of one": refused_twice(size=[32]),
    "`size` a list of three": refused_twice(size=[32, 32, 3]),
    "`crop_size` a shortest edge": refused_twice(crop_size={"shortest_edge": 28}),
    "`crop_size` not square": refused_twice(crop_size={"height": 28, "width": 42}),
    "`crop_size` null": refused_twice(crop_size=None),
    "`rescale_factor` 0": refused_twice(rescale_factor=0),
    "`rescale_factor` of text": refused_twice(rescale_factor="1/255"),
    "`image_mean` of two": refused_twice(image_mean=[0.5, 0.5]),
    "`image_mean` of text": refused_twice(image_mean="0.5"),
    "`image_mean` null": refused_twice(image_mean=None),
    "`image_std` 0": refused_twice(image_std=[0.2, 0, 0.2]),
    "`image_std` NaN": refused_twice(image_std=float("nan")),
    "`resample` 6": refused_twice(resample=6),
    "`resample` of text": refused_twice(resample="bicubic"),
}

PROCESSORS = {**FOLLOWED, **NOT_FOLLOWED}
