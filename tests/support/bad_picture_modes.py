"""The rows of docs/bad-inputs.md about depths, colour spaces and orientations of pictures.

Each file is written byte by byte from values, and the right pixels follow from these values.
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support import raw_pictures as raw
from tests.support.bad_inputs import Row
from tests.support.bad_pictures import halves, picture
from tests.support.pictures import encoded
from tests.support.right_pixels import levels, on_white, ramp, uint16

Cases = dict[str, Callable[[Path], Row]]


def png_rows(*, interlaced: bool = False) -> Cases:
    """PNG of each colour type and depth, opaque and transparent."""
    rows: Cases = {}
    suffix = ", interlaced" if interlaced else ""

    def add(name: str, sentence: str, right: np.ndarray, *what: Any, **chunks: bytes) -> None:
        before = {chunk.encode(): data for chunk, data in chunks.items()}
        data = raw.png(*what, interlaced=interlaced, before=before)
        rows[f"PNG, {name}{suffix}"] = picture(data, sentence, close_to=right)

    for bits in (1, 2, 4, 8, 16):
        grey = ramp(bits)
        right, key = levels(grey, bits), int(grey[1, 1])
        add(f"{bits}-bit grey", "the largest is white", right, grey, bits, raw.GREY)
        seen = np.where((grey == key)[..., None], 255, right)
        name = f"{bits}-bit grey with a transparent value"
        add(name, "that value is white", seen, grey, bits, raw.GREY, tRNS=uint16(key))
    for bits in (8, 16):
        top = 2**bits - 1
        colour = ramp(bits, 3)
        colour[2, 1] = colour[1, 1]
        colour[2, 2] = colour[1, 1] ^ [0, 0, 1]  # differs in its last bit
        right, key = levels(colour, bits), colour[1, 1]
        add(f"{bits}-bit colour", "the largest is white", right, colour, bits, raw.RGB)
        seen = np.where((colour == key).all(-1, keepdims=True), 255, right)
        name = f"{bits}-bit colour with a transparent one"
        add(name, "that colour alone is white", seen, colour, bits, raw.RGB, tRNS=uint16(*key))
        both = ramp(bits, 2)
        seen = on_white(levels(both[..., 0], bits), both[..., 1] / top)
        add(f"{bits}-bit grey with alpha", "on white", seen, both, bits, raw.GREY_ALPHA)
        four = ramp(bits, 4)
        seen = on_white(levels(four[..., :3], bits), four[..., 3] / top)
        add(f"{bits}-bit colour with alpha", "on white", seen, four, bits, raw.RGBA)
    for bits in (1, 2, 4, 8):
        index, table = ramp(bits), ramp(8, 3, shape=(1, 2**bits))[0]
        chunks = {"PLTE": table.astype(np.uint8).tobytes()}
        what = (index, bits, raw.PALETTE)
        add(f"{bits}-bit palette", "its colours", table[index], *what, **chunks)
        alpha = np.linspace(0, 255, 2**bits).round().astype(np.uint8)
        seen = on_white(table[index], alpha[index] / 255)
        chunks["tRNS"] = alpha.tobytes()
        add(f"{bits}-bit palette with alpha", "on white", seen, *what, **chunks)
    return rows


def bmp_rows() -> Cases:
    """BMP of each depth, header and layout of bits."""
    rows: Cases = {}

    def add(name: str, sentence: str, right: Any, *what: Any, **options: Any) -> None:
        data = raw.bmp(*what, **options)
        rows[f"BMP, {name}"] = picture(data, sentence, close_to=right)

    for bits in (1, 2, 4, 8):
        index, table = ramp(bits), ramp(8, 3, shape=(1, 2**bits))[0]
        add(f"{bits}-bit palette", "its colours", table[index], index, bits, colours=table)
    add("of OS/2", "its colours", table[index], index, 8, colours=table, header=12)
    add("rows from the top", "upright", table[index], index, 8, colours=table, top_down=True)
    few = np.array([[1, 1, 1, 2, 3], [0, 0, 0, 0, 0]])
    runs = b"\x05\0\0\0\x03\x01\x01\x02\x01\x03\0\x01"
    options: dict[str, Any] = {"colours": table, "compression": 1, "data": runs}
    add("8-bit in runs", "its colours", table[few], few, 8, **options)
    runs = b"\x05\0\0\0\x03\x11\x02\x23\0\x01"
    options = {"colours": table[:16], "compression": 2, "data": runs}
    add("4-bit in runs", "its colours", table[few], few, 4, **options)
    add("with a JPEG inside", "", 0, few, 24, compression=4, data=b"\xff\xd8")
    rgb, alpha = ramp(8, 4)[..., :3], ramp(8, 4)[..., 3]
    whole = (rgb << [16, 8, 0]).sum(-1)
    add("24-bit", "as stored", rgb, whole, 24)
    add("32-bit, the last byte unused", "without it", rgb, whole | alpha << 24, 32)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for version, header in ((4, 108), (5, 124)):
        name = f"32-bit with alpha, version {version}"
        right = on_white(rgb, alpha / 255)
        add(name, "on white", right, whole | alpha << 24, 32, masks=masks, header=header)
    depths = {"5, 5 and 5": (5, 5, 5), "5, 6 and 5": (5, 6, 5), "4, 4 and 4": (4, 4, 4)}
    for name, depth in depths.items():
        values = rgb >> (8 - np.array(depth))
        places = (depth[1] + depth[2], depth[2], 0)
        parts = [2**n - 1 << place for n, place in zip(depth, places, strict=True)]
        right = np.rint(values * 255 / (2 ** np.array(depth) - 1))
        word = (values << np.array(places)).sum(-1)
        add(f"16-bit, {name} bits a colour", "the largest is white", right, word, 16, masks=parts)
    return rows


def pnm_rows() -> Cases:
    """PBM, PGM, PPM, PFM: each largest value, as bytes and as text."""
    rows: Cases = {}
    for top in (1, 100, 255, 1000, 65535):
        wide = ">u2" if top > 255 else "u1"
        grey, colour = (ramp(16, n) * top // 65535 for n in (1, 3))
        for name, magic, text, values in (("PGM", 5, 2, grey), ("PPM", 6, 3, colour)):
            right = np.rint(values * 255 / top)
            right = right[..., None] + np.zeros(3) if right.ndim == 2 else right
            head = f"P{magic}\n5 3\n{top}\n".encode()
            rows[f"{name}, largest value {top:,}"] = picture(
                head + values.astype(wide).tobytes(), "that is white", close_to=right
            )
            if top == 1000:
                words = f"P{text}\n# a comment\n5 3\n{top}\n{' '.join(map(str, values.ravel()))}\n"
                rows[f"{name} in text"] = picture(
                    words.encode(), "the largest is white", close_to=right
                )
    bits = ramp(1)
    body = b"P4\n5 3\n" + b"".join(raw.packed(row, 1, ">") for row in bits)
    rows["PBM"] = picture(body, "1 is black", close_to=255 - levels(bits, 1))
    values = np.linspace(0, 1, 15).reshape(3, 5)
    for name, letter, scale in (("little", "<", -1.0), ("big", ">", 1.0)):
        data = f"Pf\n5 3\n{scale}\n".encode() + values[::-1].astype(f"{letter}f4").tobytes()
        right = levels(values * 255, 8)
        rows[f"PFM, {name}-endian"] = picture(data, "the largest is white", close_to=right)
    rows["PFM in colour"] = picture(b"PF\n1 1\n-1.0\n" + bytes(12))
    rows["PAM"] = picture(b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0")
    return rows


def other_rows() -> Cases:
    """GIF, WebP, JPEG and animations."""
    index, table = ramp(8, shape=(3, 5)) % 5, ramp(8, 3, shape=(1, 5))[0]
    right = table[index]
    clear = np.where((index == 2)[..., None], 255, right)
    framed = np.full((6, 8, 3), 255)
    framed[2:5, 1:6] = clear
    beside = np.broadcast_to(table[0], (6, 8, 3)).copy()
    beside[2:5, 1:6] = right
    part: dict[str, Any] = {"place": (1, 2), "canvas": (8, 6)}
    four = ramp(8, 4)
    rgba = Image.fromarray(four.astype(np.uint8))
    on = on_white(four[..., :3], four[..., 3] / 255)
    red, blue = Image.new("RGBA", (16, 8), (255, 0, 0, 128)), Image.new("RGBA", (16, 8), "blue")
    pale = on_white(np.full((8, 16, 3), (255, 0, 0)), np.full((8, 16), 128 / 255))
    plain = encoded(halves(), "JPEG", quality=100, subsampling=0)
    frame = plain.index(b"\xff\xc0")
    inks = Image.merge("CMYK", [Image.new("L", (16, 8), n) for n in (0, 255, 255, 0)])
    several: dict[str, Any] = {"save_all": True, "append_images": [blue]}
    profile = {"icc_profile": b"a profile that turns all colours"}
    return {
        "GIF": picture(raw.gif(index, table), "its colours", close_to=right),
        "GIF, interlaced": picture(
            raw.gif(index, table, interlaced=True), "its colours", close_to=right
        ),
        "GIF with a palette of its frame": picture(
            raw.gif(index, table, local=True), "its colours", close_to=right
        ),
        "GIF with a transparent colour": picture(
            raw.gif(index, table, transparent=2), "that colour is white", close_to=clear
        ),
        "GIF whose frame is a part, with a transparent colour": picture(
            raw.gif(index, table, transparent=2, **part), "white beside it", close_to=framed
        ),
        "GIF whose frame is a part, opaque": picture(
            raw.gif(index, table, **part), "the background colour beside it", close_to=beside
        ),
        "WebP with alpha": picture(
            encoded(rgba, "WEBP", lossless=True, exact=True), "on white", close_to=on
        ),
        "animated WebP with alpha": picture(
            encoded(red, "WEBP", lossless=True, **several), "its first frame, on white",
            close_to=pale,
        ),
        "animated PNG with alpha": picture(
            encoded(red, "PNG", **several), "its first frame, on white", close_to=pale
        ),
        "CMYK JPEG of Adobe, inks inverted": picture(
            encoded(inks, "JPEG", quality=100), "as RGB", close_to=(255, 0, 0)
        ),
        "JPEG of 12 bits": picture(plain[: frame + 4] + b"\x0c" + plain[frame + 5 :]),
        "JPEG with a colour profile": picture(
            encoded(Image.new("RGB", (8, 8), (90, 90, 90)), "JPEG", quality=100, **profile),
            "as stored; profiles are not applied",
            close_to=(90, 90, 90),
        ),
        "PNG with a colour profile": picture(
            encoded(halves(), **profile), "as stored; profiles are not applied",
            close_to=np.array(halves()),
        ),
        "PNG with a gamma": picture(
            raw.png(ramp(8), 8, raw.GREY, before={b"gAMA": struct.pack(">I", 100_000)}),
            "as stored; gamma is not applied",
            close_to=levels(ramp(8), 8),
        ),
    }  # fmt: skip


MODES: Mapping[str, Callable[[Path], Row]] = {
    **png_rows(),
    **bmp_rows(),
    **pnm_rows(),
    **other_rows(),
}
