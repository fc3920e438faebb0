"""The rows of docs/bad-inputs.md about TIFF: each kind of samples, layout and colour space.

Each file is written byte by byte from values, and the right pixels follow from these values.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import raw_pictures as raw
from tests.support.bad_inputs import Row
from tests.support.bad_pictures import picture
from tests.support.right_pixels import lab_to_rgb, levels, on_white, ramp, ycbcr_to_rgb

Cases = dict[str, Callable[[Path], Row]]

ORDERS = {"little-endian": "<", "big-endian": ">"}
KINDS = {
    (raw.UNSIGNED, "unsigned"): (1, 2, 4, 8, 10, 12, 16, 32, 64),
    (raw.SIGNED, "signed"): (8, 16, 32),
    (raw.FLOAT, "float"): (16, 32, 64),
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "in a strip": {},
    "in tiles": {"tile": 16},
    "compressed": {"deflated": True},
    "compressed in tiles": {"deflated": True, "tile": 16},
}


def grey_tiff(
    kind: int, bits: int, order: str, white: bool, **layout: Any
) -> tuple[bytes, np.ndarray]:
    """Return a grey TIFF and its right pixels; `white` if 0 is white."""
    if kind == raw.FLOAT:
        values = np.linspace(0, 1, 15).reshape(3, 5)
        right = levels(values * 255, 8)
    else:
        depth = min(bits, 52) - (kind == raw.SIGNED)
        values = ramp(depth)
        right = levels(values, depth)
    photometric = raw.WHITE_IS_ZERO if white else raw.BLACK_IS_ZERO
    data = raw.tiff(values, bits, photometric, order=order, sample_format=kind, **layout)
    return data, 255 - right if white else right


def grey_tiff_rows() -> Cases:
    """TIFF of one channel: every kind and depth of samples, both byte orders, both polarities."""
    rows: Cases = {}
    for (kind, name), depths in KINDS.items():
        for bits in depths:
            for order, letter in ORDERS.items():
                if bits <= 8 and letter == ">":
                    continue  # one byte has no order
                for white in (False, True):
                    data, right = grey_tiff(kind, bits, letter, white)
                    ends = f"{', ' + order if bits > 8 else ''}{', 0 is white' if white else ''}"
                    sentence = "0 is white" if white else "the largest is white"
                    rows[f"TIFF, {bits}-bit {name} grey{ends}"] = picture(
                        data, sentence, close_to=right
                    )
    for order, letter in ORDERS.items():
        data, right = grey_tiff(raw.FLOAT, 32, letter, False, deflated=True)
        rows[f"TIFF, 32-bit float grey, {order}, compressed"] = picture(
            data, "the largest is white", close_to=right
        )
    return rows


def tiff_rows() -> Cases:
    """TIFF of colours, with alpha, in planes, with palettes."""
    rows: Cases = {}

    def add(name: str, sentence: str, right: Any, *what: Any, **options: Any) -> None:
        data = raw.tiff(*what, **options)
        rows[f"TIFF, {name}"] = picture(data, sentence, close_to=right)

    def extra(kind: int) -> dict[int, tuple[int, int]]:
        return {338: (3, kind)}

    for bits in (4, 8, 16, 32):
        top, three, four = 2**bits - 1, ramp(bits, 3), ramp(bits, 4)
        right, alpha = levels(four[..., :3], bits), four[..., 3] / top
        add(f"{bits}-bit RGB", "as stored", levels(three, bits), three, bits, raw.OF_RGB)
        name, what = f"{bits}-bit RGB in planes", (three, bits, raw.OF_RGB)
        add(name, "as stored", levels(three, bits), *what, planar=True)
        what = (four, bits, raw.OF_RGB)
        name = f"{bits}-bit RGB with a fourth channel"
        add(f"{name} of no meaning", "without it", right, *what, tags=extra(0))
        add(f"{name}, alpha", "on white", on_white(right, alpha), *what, tags=extra(2))
        inks = 255 * (1 - four[..., :3] / top) * (1 - four[..., 3:] / top)
        add(f"{bits}-bit CMYK", "as RGB", np.rint(inks), four, bits, raw.OF_CMYK)
    for bits in (8, 16):
        four = ramp(bits, 4)
        four[..., :3] = four[..., :3] * four[..., 3:] // (2**bits - 1)
        right = levels(four[..., :3], bits) + 255 - levels(four[..., 3], bits)
        name = f"{bits}-bit RGB with alpha multiplied in"
        add(name, "on white", right, four, bits, raw.OF_RGB, tags=extra(1))
        both = ramp(bits, 2)
        right = on_white(levels(both[..., 0], bits), both[..., 1] / (2**bits - 1))
        name = f"{bits}-bit grey with alpha"
        add(name, "on white", right, both, bits, raw.BLACK_IS_ZERO, tags=extra(2))
        both[..., 0] = both[..., 0] * both[..., 1] // (2**bits - 1)
        right = levels(both[..., 0], bits) + 255 - levels(both[..., 1], bits)
        add(f"{name} multiplied in", "on white", right, both, bits, 1, tags=extra(1))
    for name, layout in LAYOUTS.items():
        add(f"8-bit RGB {name}", "as stored", ramp(8, 3), ramp(8, 3), 8, raw.OF_RGB, **layout)
    for bits in (1, 2, 4, 8):
        index, table = ramp(bits), ramp(8, 3, shape=(1, 2**bits))[0]
        what = (index, bits, raw.OF_PALETTE)
        tags = {320: (3, (table.T * 257).ravel().tolist())}
        add(f"{bits}-bit palette", "its colours", table[index], *what, tags=tags)
    tags = {320: (3, table.T.ravel().tolist())}
    add("palette of 8-bit colours", "", table[index], *what, tags=tags)
    full = ramp(8, 3)
    each, shared = ({530: (3, [n, n])} for n in (1, 2))
    add("YCbCr", "as RGB", ycbcr_to_rgb(full), full, 8, raw.OF_YCBCR, tags=each)
    add("YCbCr with one colour for four pixels", "", 0, full, 8, raw.OF_YCBCR, tags=shared)
    lab = np.stack([full[..., 0], full[..., 1] // 8 + 240, full[..., 2] // 8 + 240], axis=-1) % 256
    add("L\\*a\\*b\\*", "as RGB", lab_to_rgb(lab), lab, 8, raw.OF_LAB)
    add("mask", "", 0, ramp(1), 1, 4)
    mirrored = np.vectorize(lambda value: int(f"{value:08b}"[::-1], 2))(ramp(8))
    right = levels(ramp(8), 8)
    add("lowest bit first", "as stored", right, mirrored, 8, 1, tags={266: (3, 2)})
    return rows


TIFFS: Mapping[str, Callable[[Path], Row]] = {**grey_tiff_rows(), **tiff_rows()}
