"""How pictures are read: recorded as given, and refused where it is another; JPEGs in part."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.cache import CacheMismatchError
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.picture_files.upright import ORIENTATION
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.reading import (
    LARGEST,
    Reading,
    reading_of,
    recorded_sides,
    sides_of,
    size_of,
)
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.origin import _encoder_options
from frozen_vqa.pipeline.system.texts import to_json
from tests.support.caches import make_spec as spec
from tests.support.pictures import encoded, noise

VALUES = st.floats(-LARGEST, LARGEST)


EDGES = st.integers(1, 90) | st.sampled_from([16, 64, 88])
WINDOWS = st.tuples(VALUES, VALUES).filter(lambda pair: pair[0] < pair[1])


@given(st.builds(Reading, st.none() | WINDOWS, st.none() | st.integers(1, 2**16)))
def test_it_comes_back_as_it_was_given(reading: Reading) -> None:
    stored = finite_json(to_json({"model": "m", **reading.settings()}))
    assert reading_of(stored) == reading


def test_what_is_left_as_it_is_leaves_no_trace() -> None:
    assert Reading().settings() == {}
    assert reading_of({"model": "m"}) == Reading()


@pytest.mark.parametrize(
    "wrong", [None, 3, "0 1", [], [1], [1, 2, 3], [2, 1], [1, 1], ["0", "1"], [0, 1e99], [True, 2]]
)
def test_a_forged_window_is_refused(wrong: object) -> None:
    with pytest.raises(ModelError, match="the settings of the image encoder: window"):
        reading_of({"window": wrong})  # type: ignore[dict-item]


@pytest.mark.parametrize("wrong", [None, "224", 0, -1, 2**16 + 1, 1.5, True, [224]])
def test_a_forged_side_is_refused(wrong: Any) -> None:
    with pytest.raises(ModelError, match="the settings of the image encoder: jpeg side"):
        reading_of({"jpeg side": wrong})


@pytest.mark.parametrize("wrong", [None, "", "pillow", True, ["nvjpeg"]])
def test_a_forged_decoder_is_refused(wrong: Any) -> None:
    with pytest.raises(ModelError, match="the settings of the image encoder: jpeg decoder"):
        reading_of({"jpeg decoder": wrong})


@pytest.mark.parametrize(
    ("setting", "one", "other", "words"),
    [
        ("window", [0, 4095], [0, 4096], ["--window", "0", "4095"]),
        ("jpeg side", 224, 448, ["--reduce-jpegs"]),
    ],
)
def test_a_cache_read_otherwise_is_refused_and_its_command_says_how(
    setting: str, one: Any, other: Any, words: list[str]
) -> None:
    plain = spec()
    ours, theirs = (spec(vision={**plain.vision, setting: value}) for value in (one, other))
    for first, second in permutations((plain, ours, theirs), 2):
        with pytest.raises(CacheMismatchError, match=rf"vision {setting} is .*, asked for"):
            first.require(second, Path("cache"))
    given = _encoder_options(ours)
    assert given[given.index(words[0]) :][: len(words)] == words
    assert words[0] not in _encoder_options(plain)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(EDGES, EDGES),
    st.integers(1, 60),
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.booleans(),
    st.sampled_from([1, 6]),
)
def test_a_jpeg_is_halved_as_long_as_its_sides_suffice(
    size: tuple[int, int], side: int, mode: str, progressive: bool, turned: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    ramp = Image.linear_gradient("L").resize(size).convert(mode)
    data = encoded(ramp, "JPEG", quality=95, progressive=progressive, exif=exif)
    full, reduced = load_rgb(data), load_rgb(data, Reading(jpeg_side=side))

    by = max((one for one in (8, 4, 2) if min(size) >= one * side), default=1)
    assert reduced.size == tuple(-(-edge // by) for edge in full.size)
    if by == 1:
        assert reduced.tobytes() == full.tobytes()
    elif not any(edge % 8 for edge in size):  # or the blocks at the edges are cut
        means = full.resize(reduced.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(reduced).astype(int) - np.asarray(means)).mean() < 3


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP"])
def test_pictures_of_other_formats_are_decoded_in_full(form: str) -> None:
    data = encoded(noise(64, 48), form)
    assert load_rgb(data, Reading(jpeg_side=8)).tobytes() == load_rgb(data).tobytes()


@pytest.mark.parametrize(("fit", "side"), [("whole", 28), ("crop", 32)])
def test_an_encoder_names_the_side_that_it_needs(fit: Any, side: int) -> None:
    assert ImageEncoder("tiny", fit=fit).reading == Reading()
    encoder = ImageEncoder("tiny", fit=fit, image_size=28, window=(1, 2), reduce_jpegs=True)
    assert encoder.reading == Reading((1, 2), side)
    assert reading_of(encoder.settings) == encoder.reading
    assert encoder.pixels(Image.new("RGB", (side, side))).shape == (28, 28, 3)


@given(st.integers(1, 2**16), st.integers(1, 2**16))
def test_a_size_is_recorded_as_it_is_asked_for(height: int, width: int) -> None:
    size = size_of((height, width))
    assert sides_of(size) == sides_of(f"{height}x{width}") == (height, width)
    assert isinstance(size, int) == (height == width)
    assert recorded_sides({"image size": size}) == (height, width)


@pytest.mark.parametrize(
    "text", ["", "x", "12x", "x12", "12x12x12", "12*14", "12 14", "12,14", "-1", "1.5", "1e3", "١٤"]
)
def test_what_names_no_size_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"is not a size of pictures; give .*, such as 336x448$"):
        sides_of(text)


@pytest.mark.parametrize(
    "found", [None, True, 1.5, "14", "14x14", "014x28", 0, -1, "0x14", 2**17, "abc", [14], {}]
)
def test_a_recorded_size_is_what_is_written(found: Any) -> None:
    with pytest.raises(ModelError, match=r"image size is .*, are needed$"):
        recorded_sides({"image size": found})
