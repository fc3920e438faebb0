"""DICOM: grey through its window, as pydicom has it, and the names of what is not read."""

import io
import sys
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
)

from frozen_vqa.pipeline.encoders.picture_files import budget  # noqa: E402
from frozen_vqa.pipeline.encoders.preprocess import load_rgb  # noqa: E402
from frozen_vqa.pipeline.encoders.reading import Reading  # noqa: E402
from frozen_vqa.pipeline.errors import ImageError  # noqa: E402
from tests.support.dicoms import dicom  # noqa: E402
from tests.support.pictures import encoded, noise, pixels  # noqa: E402

SIGNED = np.random.default_rng(0).integers(-1024, 3072, (5, 7)).astype(np.int16)
UNSIGNED = np.random.default_rng(0).integers(0, 4096, (5, 7)).astype(np.uint16)


def grey(data: bytes, window: tuple[float, float] | None = None) -> np.ndarray:
    image = load_rgb(data, Reading(window))
    seen = np.asarray(image)
    assert (seen == seen[..., :1]).all()
    return seen[..., 0]


def formula(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([SIGNED, UNSIGNED]),
    st.integers(-1500, 3000),
    st.integers(2, 5000),
    st.sampled_from([(1, 0), (1, -1024), (0.5, 3)]),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.booleans(),
)
def test_the_window_of_the_file_is_that_of_pydicom(
    values: np.ndarray,
    centre: int,
    width: int,
    rescale: tuple[float, float],
    shape: str,
    inverted: bool,
) -> None:
    data = dicom(
        values,
        WindowCenter=centre,
        WindowWidth=width,
        RescaleSlope=rescale[0],
        RescaleIntercept=rescale[1],
        VOILUTFunction=shape,
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
    )
    seen = grey(data).astype(float)

    one = pydicom.dcmread(io.BytesIO(data))
    with np.errstate(over="ignore"):  # in pydicom's own sigmoid
        out = pydicom.pixels.apply_windowing(pydicom.pixels.apply_rescale(values, one), one)
    stored = [-(2**15), 2**15 - 1] if values.dtype.kind == "i" else [0, 2**16 - 1]
    black, white = (value * rescale[0] + rescale[1] for value in stored)
    expected = (out - black) / (white - black) * 255
    assert np.abs(seen - (255 - expected if inverted else expected)).max() <= 0.5 + 1e-6


def test_the_first_of_several_windows_counts() -> None:
    data = dicom(SIGNED, WindowCenter=[40, 600], WindowWidth=[400, 1500])

    assert np.array_equal(grey(data), formula(SIGNED, 39.5 - 199.5, 39.5 + 199.5))


def test_a_given_window_counts_in_rescaled_values() -> None:
    data = dicom(UNSIGNED, WindowCenter=1, WindowWidth=2, RescaleSlope=2, RescaleIntercept=-1024)

    assert np.array_equal(grey(data, (-160, 240)), formula(UNSIGNED * 2.0 - 1024, -160, 240))


def test_without_any_window_its_own_values_count() -> None:
    assert np.array_equal(grey(dicom(SIGNED)), formula(SIGNED, SIGNED.min(), SIGNED.max()))
    assert not grey(dicom(np.full((2, 2), 7, np.uint16))).any()


def test_a_window_one_wide_is_a_threshold() -> None:
    data = dicom(np.array([[9, 10]], np.uint16), WindowCenter=10, WindowWidth=1)

    assert grey(data).tolist() == [[0, 255]]


def test_colour_and_compressed_pictures() -> None:
    colours = np.asarray(noise(6, 4))
    assert np.array_equal(pixels(dicom(colours)), colours)
    small = encapsulate([encoded(Image.fromarray(UNSIGNED), "JPEG2000", no_jp2=True)])
    data = dicom(UNSIGNED, syntax=JPEG2000Lossless, PixelData=small)
    assert np.array_equal(grey(data, (0, 4095)), formula(UNSIGNED, 0, 4095))


def compressed(picture: bytes, **fields: Any) -> bytes:
    values = np.zeros((5, 7), np.uint8)
    syntax = fields.pop("syntax", JPEGBaseline8Bit)
    return dicom(values, syntax=syntax, PixelData=encapsulate([picture]), **fields)


LARGE = {"Rows": 9000, "Columns": 9000}
REFUSED = {
    "several frames": (lambda: dicom(UNSIGNED, NumberOfFrames=2), "it has 2 frames, and one"),
    "a palette": (
        lambda: dicom(np.zeros((2, 2), np.uint8), PhotometricInterpretation="PALETTE COLOR"),
        "8-bit PALETTE COLOR; save it as 8-bit PNG",
    ),
    "no picture": (
        lambda: dicom(UNSIGNED, PixelData=None, Modality="SR"),
        r"a DICOM file without a picture \(of the modality SR\)",
    ),
    "deflated": (
        lambda: dicom(UNSIGNED, syntax=DeflatedExplicitVRLittleEndian),
        r"compressed as a whole \(deflated\)",
    ),
    "another compression": (
        lambda: compressed(b"\xff\xd8" + bytes(40), syntax=JPEGLosslessSV1),
        "a kind that is not read: its compression is JPEG Lossless",
    ),
    "too many pixels": (lambda: dicom(UNSIGNED, **LARGE), "too large: 9000 by 9000"),
    "a bomb inside": (
        lambda: compressed(encoded(Image.new("L", (9000, 9000)), "JPEG", quality=1)),
        "JPEG Baseline.*too large: 9000 by 9000",
    ),
    "another size inside": (
        lambda: compressed(encoded(Image.new("L", (9, 9)), "JPEG")),
        "truncated or damaged",
    ),
    "too few values": (lambda: dicom(UNSIGNED, Rows=50), "truncated or damaged"),
    "cut": (lambda: dicom(UNSIGNED)[:300], "truncated or damaged|without a picture"),
    "a window of no width": (
        lambda: dicom(UNSIGNED, WindowCenter=3, WindowWidth=0),
        "its window is 0 wide",
    ),
    "a strange window": (
        lambda: dicom(UNSIGNED, WindowCenter=3, WindowWidth=9, VOILUTFunction="ODD"),
        "its window has the shape ODD; give --window",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named(name: str) -> None:
    make, sentence = REFUSED[name]

    with pytest.raises(ImageError, match=sentence):
        load_rgb(make())


def test_many_small_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_READS", 20)

    with pytest.raises(ImageError, match="too many parts"):
        load_rgb(dicom(UNSIGNED))


def test_without_pydicom_the_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)

    with pytest.raises(ImageError, match=r"a DICOM file, and .* pip install 'frozen-vqa\[dicom\]'"):
        load_rgb(dicom(UNSIGNED))
