"""TIFF of every kind: the pixels that were written, or a reason that names the kind."""

import itertools
from typing import Any

import numpy as np
import pytest

from frozen_vqa.pipeline.errors import ImageError
from tests.support import raw_pictures as raw
from tests.support.bad_tiffs import KINDS, LAYOUTS, ORDERS, grey_tiff
from tests.support.pictures import pixels
from tests.support.right_pixels import levels, on_white, ramp


def require_right_or_named(data: bytes, right: np.ndarray) -> bool:
    """Return whether the picture is read; if so, the pixels are right."""
    try:
        seen = pixels(data)
    except ImageError as error:
        reason = str(error)
    else:
        assert np.abs(seen.astype(int) - right).max() <= 2
        return True
    assert reason.startswith("TIFF of a kind that is not read: ")
    return False


@pytest.mark.parametrize("layout", LAYOUTS)
def test_grey_of_every_depth_order_and_polarity_is_right_or_named(layout: str) -> None:
    read = set()
    for (kind, name), depths in KINDS.items():
        for bits, order, white in itertools.product(depths, ORDERS.values(), (False, True)):
            data, right = grey_tiff(kind, bits, order, white, **LAYOUTS[layout])
            if require_right_or_named(data, right):
                read.add((name, bits, order, white))

    common = {("unsigned", bits, "<", white) for bits in (1, 8, 16) for white in (False, True)}
    assert read >= common | {("unsigned", 16, ">", False), ("float", 32, "<", False)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", [False, True])
def test_colours_of_every_depth_and_layout_are_right_or_named(layout: str, planar: bool) -> None:
    read = set()
    for bits, order, extra in itertools.product((8, 16, 32), "<>", (None, 0, 2)):
        options: dict[str, Any] = {"order": order, "planar": planar, **LAYOUTS[layout]}
        samples = ramp(bits, 3 if extra is None else 4)
        right = levels(samples[..., :3], bits)
        if extra == 2:
            right = on_white(right, samples[..., 3] / (2**bits - 1))
        tags = {} if extra is None else {338: (3, extra)}
        data = raw.tiff(samples, bits, raw.OF_RGB, tags=tags, **options)
        if require_right_or_named(data, right):
            read.add((bits, order, extra))

    assert {(8, "<", None), (8, ">", None)} <= read
    assert planar or {(16, "<", None), (16, ">", 2)} <= read


def test_four_samples_without_a_word_on_the_fourth_have_alpha() -> None:
    """As browsers and libtiff show them; the format wants the tag ExtraSamples."""
    samples = ramp(8, 4)

    seen = pixels(raw.tiff(samples, 8, raw.OF_RGB))

    right = on_white(samples[..., :3], samples[..., 3] / 255)
    assert np.abs(seen.astype(int) - right).max() <= 2


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_differences_along_a_row_are_added_up(bits: int, order: str) -> None:
    """Predictor 2, as most writers of compressed TIFF store pictures."""
    samples = ramp(bits, 3)
    stored = np.diff(samples, axis=1, prepend=0) % 2**bits

    seen = pixels(
        raw.tiff(stored, bits, raw.OF_RGB, order=order, deflated=True, tags={317: (3, 2)})
    )

    assert np.abs(seen.astype(int) - levels(samples, bits)).max() <= 1


def test_the_last_rows_may_be_in_a_shorter_strip() -> None:
    samples = ramp(8, shape=(5, 4))
    strips = {273: (4, [8, 16, 24]), 278: (4, 2), 279: (4, [8, 8, 4])}

    seen = pixels(raw.tiff(samples, 8, raw.BLACK_IS_ZERO, tags=strips))

    assert np.array_equal(seen, levels(samples, 8))
