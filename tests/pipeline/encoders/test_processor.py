"""Each switch of a preprocessor counts: what is followed gives the numbers of transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.pipeline.encoders.image_encoder import Fit, ImageEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support.bad_processors import DINOV2, OWN, require_theirs, theirs, write_model
from tests.support.pictures import noise

SHORTEST = ({"shortest_edge": 32}, {"shortest_edge": 20}, 36)
SQUARE = ({"height": 42, "width": 42}, [28, 28])
CROP = ({"height": OWN, "width": OWN}, 42, [56, 56])
NUMBERS = (0.5, 0.1, [0.4, 0.5, 0.6], [0.2, 1.5, 3])
SWITCH = st.sampled_from([True, False, None])
FILES = st.fixed_dictionaries(
    {
        "do_resize": SWITCH,
        "size": st.sampled_from([*SHORTEST, *SQUARE]),
        "do_center_crop": SWITCH,
        "crop_size": st.sampled_from(CROP),
        "resample": st.integers(0, 5),
        "do_rescale": SWITCH,
        "rescale_factor": st.sampled_from([1 / 255, 1 / 127.5, 1]),
        "do_normalize": SWITCH,
        "image_mean": st.sampled_from(NUMBERS),
        "image_std": st.sampled_from(NUMBERS),
        "do_convert_rgb": SWITCH,
        "do_pad": st.sampled_from([False, None]),
    }
)
ALONE: list[dict[str, Any]] = [
    {},
    {"do_resize": False},
    {"size": SHORTEST[1]},
    {"size": SQUARE[0]},
    {"do_center_crop": False, "size": SQUARE[0]},
    {"crop_size": CROP[2]},
    {"resample": 0},
    {"do_rescale": False},
    {"rescale_factor": 1 / 127.5},
    {"do_normalize": False},
    {"image_mean": 0.5},
    {"image_std": 0.1},
]
"""What is changed in the published file, one thing at a time."""


def each_alone(test: Callable[..., None]) -> Callable[..., None]:
    """Try each change by itself, before hypothesis draws any combination."""
    for changes in ALONE:
        test = example(file=DINOV2 | changes, fit="crop", size=(50, 40))(test)
    return test


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dinov2")


# Not Phase.shrink, because a failure would take minutes: each example loads two processors.
@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@each_alone
@given(
    file=FILES, fit=st.sampled_from(["whole", "crop"]), size=st.tuples(*[st.integers(1, 60)] * 2)
)
def test_every_combination_of_switches_gives_the_input_of_transformers(
    folder: Path, file: dict[str, Any], fit: Fit, size: tuple[int, int]
) -> None:
    """Only pictures that come out in different sizes are refused, and --fit whole takes these."""
    write_model(folder, {"image_processor_type": "BitImageProcessor", **file})
    square = file["do_resize"] and file["size"] in SQUARE
    if fit == "crop" and not file["do_center_crop"] and not square:
        with pytest.raises(ModelError, match=r"has do_center_crop false, .*; use --fit whole$"):
            ImageEncoder(str(folder), fit=fit)
        return

    encoder = require_theirs(folder, fit, noise(*size))

    assert encoder.image_size in (28, 42, 56)


@pytest.mark.parametrize("side", [14, 56])
def test_another_image_size_scales_the_resize_and_the_crop(folder: Path, side: int) -> None:
    for changes in ({}, {"size": {"height": 42, "width": 42}}):
        write_model(folder, DINOV2 | changes)
        scaled = side / OWN
        size = {k: round(v * scaled) for k, v in cast(Any, (DINOV2 | changes)["size"]).items()}
        image = noise(50, 40)

        encoder = ImageEncoder(str(folder), fit="crop", image_size=side)
        found = encoder.normalised(encoder.pixels(image)[None])[0].numpy()

        write_model(folder, DINOV2 | {"size": size, "crop_size": side})
        assert np.abs(found - theirs(folder, image, "crop", side)).max() < 1e-5


def test_a_black_picture_shows_each_switch(folder: Path) -> None:
    """Numbers written by hand, so that no library stands on both sides."""
    black, white = (Image.new("RGB", (30, 30), colour) for colour in ("black", "white"))
    for changes, low, high in (
        ({}, -2.0, 2.0),
        ({"do_rescale": False}, -2.0, (255 - 0.5) / 0.25),
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 255.0),
        ({"rescale_factor": 2 / 255}, -2.0, 6.0),
    ):
        write_model(folder, DINOV2 | {"image_mean": 0.5, "image_std": 0.25} | changes)
        encoder = ImageEncoder(str(folder))
        for image, value in ((black, low), (white, high)):
            found = encoder.normalised(encoder.pixels(image)[None])
            assert np.allclose(found.numpy(), value)


def test_settings_tell_apart_what_the_switches_change(folder: Path) -> None:
    """What the published file has is written as before, so that its caches stay valid."""
    seen = []
    for changes in (
        {},
        {"do_rescale": False},
        {"do_normalize": False},
        {"do_resize": False},
        {"size": {"height": 32, "width": 32}},
        {"size": {"shortest_edge": 28}},
    ):
        write_model(folder, DINOV2 | changes)
        encoder = ImageEncoder(str(folder), fit="crop")
        seen.append(encoder.processor.settings(whole=False, size=42))

    assert all(seen.count(one) == 1 for one in seen)
    assert set(seen[0]) == {"mean", "std", "resample"}
