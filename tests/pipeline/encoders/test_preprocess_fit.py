"""What the encoder gets of a picture, whole or cropped, is what the published processor gives."""

import numpy as np
import pytest
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from frozen_vqa.pipeline.encoders import preprocess as images
from frozen_vqa.pipeline.encoders.picture_files.budget import MAX_PIXELS
from frozen_vqa.pipeline.encoders.preprocess import fit_crop, fit_whole, load_rgb
from tests.support.pictures import encoded, noise

BICUBIC = Image.Resampling.BICUBIC


def test_one_pixel_fills_what_the_encoder_sees() -> None:
    image = load_rgb(encoded(Image.new("RGB", (1, 1), (10, 20, 30))))

    for seen in (
        fit_whole(image, (42, 42), resample=BICUBIC),
        fit_crop(image, size=42, shortest_edge=48, resample=BICUBIC),
    ):
        assert seen.shape == (42, 42, 3)
        assert (seen == [10, 20, 30]).all()


@pytest.mark.parametrize("tall", [False, True])
def test_20_000_by_10_is_squeezed_whole_or_cropped_in_the_middle(tall: bool) -> None:
    """Squeezing shows all of 100 bands; the crop shows the middle, where two bands meet."""
    bands = np.repeat(np.arange(0, 200, 2, dtype=np.uint8), 200)
    strip = np.broadcast_to(bands[None, :, None], (10, 20_000, 3))
    strip = strip.transpose(1, 0, 2) if tall else strip
    image = load_rgb(encoded(Image.fromarray(np.ascontiguousarray(strip))))

    squeezed = fit_whole(image, (100, 100), resample=Image.Resampling.BOX)
    cropped = fit_crop(image, size=40, shortest_edge=40, resample=Image.Resampling.BOX)

    if tall:
        squeezed, cropped = squeezed.transpose(1, 0, 2), cropped.transpose(1, 0, 2)
    assert (squeezed == np.arange(0, 200, 2)[None, :, None]).all()
    assert (cropped[:, :20] == 98).all()
    assert (cropped[:, 20:] == 100).all()


def processed(image: Image.Image, **settings: object) -> np.ndarray:
    """Return the pixels of the published processor before it rescales and normalises."""
    processor = BitImageProcessorPil(do_rescale=False, do_normalize=False, **settings)
    values = processor(image, return_tensors="np")["pixel_values"][0]
    return values.transpose(1, 2, 0)


SIZES = [(64, 48), (48, 64), (50, 50), (37, 101), (101, 37), (1, 1), (3, 3), (1, 40), (300, 7)]


@pytest.mark.parametrize("resample", [BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize("shape", SIZES)
def test_fit_whole_is_the_processor_without_crop(shape: tuple[int, int], resample: int) -> None:
    image = noise(*shape)

    expected = processed(
        image, size={"height": 42, "width": 42}, do_center_crop=False, resample=resample
    )

    seen = fit_whole(image, (42, 42), resample=resample)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize(("edge", "size"), [(48, 42), (42, 42), (51, 28), (30, 42), (31, 42)])
@pytest.mark.parametrize("shape", SIZES)
def test_fit_crop_is_the_processor(shape: tuple[int, int], edge: int, size: int) -> None:
    image = noise(*shape)

    expected = processed(
        image, size={"shortest_edge": edge}, crop_size={"height": size, "width": size}, resample=3
    )

    seen = fit_crop(image, size=size, shortest_edge=edge, resample=3)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize(("edge", "size"), [(48, 42), (30, 42)])
@pytest.mark.parametrize("shape", [(20, 400), (400, 20), (17, 333)])
def test_a_strip_is_cropped_to_the_same_pixels_without_growing_whole(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], edge: int, size: int
) -> None:
    expected = fit_crop(noise(*shape), size=size, shortest_edge=edge, resample=3)
    monkeypatch.setattr(images, "MAX_PIXELS", 1)

    seen = fit_crop(noise(*shape), size=size, shortest_edge=edge, resample=3)

    # Pillow may swap its two passes, and clips between them: a few levels here and there.
    assert np.abs(seen.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1)])
def test_a_strip_of_1_by_5000_costs_no_gigabyte(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    made: list[int] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, *args: object, **kwargs: object) -> Image.Image:
        result = resize(self, *args, **kwargs)
        made.append(result.width * result.height)
        return result

    monkeypatch.setattr(Image.Image, "resize", watched)
    seen = fit_crop(noise(*shape), size=224, shortest_edge=256, resample=3)

    assert seen.shape == (224, 224, 3)
    assert made
    assert max(made) <= MAX_PIXELS
