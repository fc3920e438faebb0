"""A window of values: the same levels as a plain formula, in every kind of grey picture."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.pipeline.encoders.preprocess import FORMATS, largest_of_16_bits, load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from tests.support.pictures import encoded, noise, pixels

VALUES = np.random.default_rng(3).integers(0, 4096, (6, 9))


def jpeg2000(values: np.ndarray, bits: int) -> bytes:
    """A lossless JPEG 2000 of samples of `bits`; Pillow writes 16, so the header is changed.

    Its samples are stored less half of their range.
    """
    shifted = Image.fromarray((values + 2**15 - 2 ** (bits - 1)).astype(np.uint16))
    data = bytearray(encoded(shifted, "JPEG2000", no_jp2=True))
    place = data.index(b"\xff\x51") + 40  # the depth of the first channel, less one
    assert data[place] == 15
    data[place] = bits - 1
    return bytes(data)


def big_endian(values: np.ndarray) -> bytes:
    stored = values.astype(">u2").tobytes()
    return encoded(Image.frombytes("I;16B", values.shape[::-1], stored), "TIFF")


def white_is_zero(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values.astype(np.uint16)), "TIFF", tiffinfo={262: 0})


KINDS: dict[str, Callable[[np.ndarray], bytes | Image.Image]] = {
    "PNG": lambda v: encoded(Image.fromarray(v.astype(np.uint16))),
    "PNG with a transparent value": lambda v: encoded(
        Image.fromarray(v.astype(np.uint16)), transparency=60_000
    ),
    "TIFF": lambda v: encoded(Image.fromarray(v.astype(np.uint16)), "TIFF"),
    "TIFF, big-endian": big_endian,
    "TIFF, white is zero": white_is_zero,
    "TIFF, float": lambda v: encoded(Image.fromarray(v.astype(np.float32)), "TIFF"),
    "PPM": lambda v: encoded(Image.fromarray(v.astype(np.uint16)), "PPM"),
    "JPEG 2000": lambda v: encoded(Image.fromarray(v.astype(np.uint16)), "JPEG2000"),
    "pixels": lambda v: Image.fromarray(v.astype(np.int32)),
    "float pixels": lambda v: Image.fromarray(v.astype(np.float32)),
}


def formula(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(KINDS)),
    st.floats(-5000, 70000, width=32),
    st.floats(0.25, 70000, width=32),
)
def test_every_kind_of_grey_shows_the_values_of_a_window(
    kind: str, low: float, width: float
) -> None:
    seen = np.asarray(load_rgb(KINDS[kind](VALUES), Reading((low, low + width))))[..., 0]

    expected = formula(VALUES, low, low + width)
    assert np.array_equal(seen, 255 - expected if "white" in kind else expected)


@pytest.mark.parametrize(
    "kind", [one for one in KINDS if "float" not in one and "white" not in one]
)
def test_without_a_window_all_of_16_bits_count(kind: str) -> None:
    assert np.array_equal(pixels(KINDS[kind](VALUES))[..., 0], formula(VALUES, 0, 65535))


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_jpeg_2000_counts_in_the_bits_that_it_names(bits: int) -> None:
    values = VALUES >> (12 - bits) if bits < 12 else VALUES
    data = jpeg2000(values, bits)

    assert np.array_equal(pixels(data)[..., 0], formula(values, 0, 2**bits - 1))
    assert np.array_equal(
        np.asarray(load_rgb(data, Reading((100, 700))))[..., 0], formula(values, 100, 700)
    )


def test_values_of_a_signed_jpeg_2000_are_those_of_the_file() -> None:
    buffer = io.BytesIO()
    Image.fromarray(VALUES.astype(np.uint16)).save(buffer, "JPEG2000", signed=True)

    seen = np.asarray(load_rgb(buffer.getvalue(), Reading((-1000, 2000))))[..., 0]

    assert np.array_equal(seen, formula(VALUES, -1000, 2000))


@pytest.mark.parametrize("form", FORMATS)
def test_8_bits_stay_as_they_are(form: str) -> None:
    for image in (noise(8, 6), noise(8, 6).convert("L")):
        data = encoded(image, form)
        assert np.array_equal(np.asarray(load_rgb(data, Reading((3, 17)))), pixels(data))


@pytest.mark.parametrize(("low", "high"), [(0, 70000), (-3, 5)])
def test_a_window_takes_values_that_are_refused_without(low: int, high: int) -> None:
    values = np.array([[low, high]])
    for kind in ("pixels", "float pixels"):
        seen = np.asarray(load_rgb(KINDS[kind](values), Reading((low, high))))[0, :, 0]
        assert seen.tolist() == [0, 255]


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_of_16_bits_is_found_where_bits_may_be_fewer(kind: str) -> None:
    found = largest_of_16_bits(KINDS[kind](VALUES))

    whole = "float" not in kind and kind != "JPEG 2000"  # which names its bits
    assert found == (VALUES.max() if whole else None)


def test_the_largest_of_8_bits_does_not_count() -> None:
    assert largest_of_16_bits(encoded(noise(4, 4).convert("L"))) is None
