"""Forged pictures, and names of pictures that lead elsewhere."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.support.forged_cache_files import Change
from tests.support.forged_values import TEXTS, replaced
from tests.support.hub_data import png
from tests.support.pictures import encoded, noise

LINE = {"image": "a.png", "question": "what is it?", "answer": "a box"}
PICTURE_NAMES = (
    *("../secret/file", "/etc/hostname", "../secret/folder/a.png", "/dev/zero", "/proc/self/mem"),
    *("http://example.org/a.png", "file:///etc/hostname", "a.png\0", "", ".", "..", "~/a.png"),
    *("\x1b[2J.png", "a" * 5000, "secret", "//a.png", "\ud83d.png"),
)


def line(**values: Any) -> str:
    return json.dumps(LINE | values) + "\n"


def in_data(name: str, content: bytes) -> Change:
    return lambda folder: (folder / "data" / name).write_bytes(content)


def ascii_ppm(side: int) -> bytes:
    return f"P3 {side} {side} 255\n".encode() + b"1 " * (6 << 20)


def big_png(width: int, height: int, *, kept: int = 1000) -> bytes:
    """A PNG of zeros that says it is so large, with this many rows of them."""
    rows = zlib.compress(bytes((width + 1) * min(kept, height)), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


def text_png(data: bytes) -> bytes:
    """A PNG with a compressed comment."""
    whole, chunk = png("red"), b"a\0\0" + zlib.compress(data, 9)
    made = struct.pack(">I", len(chunk)) + b"zTXt" + chunk
    made += struct.pack(">I", zlib.crc32(b"zTXt" + chunk))
    return whole[:33] + made + whole[33:]


def many(content: bytes, count: int) -> Change:
    def make(folder: Path) -> None:
        for i in range(count):
            (folder / f"data/{i}.png").write_bytes(content)
        lines = "".join(line(image=f"{i}.png", question=f"q{i}") for i in range(count))
        (folder / "data/train.jsonl").write_text(lines)

    return make


PICTURES: dict[str, Change] = {
    name: in_data("a.png", content)
    for name, content in {
        "PPM in ASCII of 10,000": ascii_ppm(10_000),
        "PPM in ASCII of 2,000": ascii_ppm(2_000),
        "PNG of 100,000 by 100,000": big_png(100_000, 100_000),
        "PNG of 44,800 by 44,800": big_png(44_800, 44_800),
        "PNG of 60,000 by 1": big_png(60_000, 1),
        "PNG of 1 by 60,000": big_png(1, 60_000, kept=60_000),
        "PNG of no size": big_png(0, 0),
        "PNG with 60 MB of comment": text_png(bytes(60 << 20)),
        "PNG cut short": png("red")[:50],
        "JPEG cut short": encoded(noise(50, 50), "JPEG")[:600],
        "GIF of 65,535": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;",
        "BMP of 2**31": b"BM" + struct.pack("<IIIIiiHH", 99, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24)
        + bytes(40),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/hostname'/></svg>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/hostname) run\n%%EOF",
        "PDF": b"%PDF-1.4\n%%EOF",
        "a link to another file": b"../secret/file",
        "WebP cut short": b"RIFF\xff\xff\xff\x7fWEBPVP8 \xff\xff\xff\x7f" + bytes(30),
        "TIFF of many pages": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "ICO of ICOs": b"\0\0\1\0\xff\xff" + bytes(4000),
        **{f"text: {n}": c.encode(errors="surrogatepass") if isinstance(c, str) else c
           for n, c in list(TEXTS.items())[:3]},
    }.items()
}  # fmt: skip
PICTURES |= {
    "eight of 49 megapixels": many(encoded(noise(64, 64).resize((7000, 7000)), "JPEG"), 8),
    **dict(replaced(["data/a.png"])),
    **{f"image {n!a:.40}": in_data("train.jsonl", line(image=n).encode()) for n in PICTURE_NAMES},
}
