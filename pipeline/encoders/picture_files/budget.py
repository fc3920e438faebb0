"""What one picture, and all that are decoded at a time, may cost in memory and time.

A few kilobytes can declare fifty megapixels, hide a million small parts, or ask for the same pixels
a thousand times. So the pixels of a picture are limited, and so are the steps of reading it. All
threads that decode share one budget of memory.
"""

import ctypes
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from frozen_vqa.pipeline.encoders.picture_files.avif import require_few_inside
from frozen_vqa.pipeline.encoders.picture_files.jpeg2000 import require_usual
from frozen_vqa.pipeline.errors import ImageError

MAX_PIXELS = 50_000_000
"""Largest picture that is decoded: four times a 12-megapixel photo, 150 MB as RGB."""

IN_FLIGHT = 1_000_000_000
"""Bytes of all pictures that are decoded at a time, as `claim` reckons them."""

BIG_FILE = 16_000_000
"""Bytes of a file that is read while no other picture is decoded."""

BYTES_PER_PIXEL = {"JPEG": 12, "JPEG2000": 30}
"""At the peak of decoding. Other formats have up to four channels of white, pixels and result."""

OF_ANY_FORMAT = 20

TRIMMED = 100_000_000
"""Bytes of a picture after which freed memory goes back to the system."""

MOST_SCANNED = 1_500_000_000
"""Pixels of all scans of a progressive JPEG; usual ones have ten scans."""

MOST_HEADER = 32_000_000
"""Bytes before the pixels."""

MOST_READS = 100_000
"""Parts of a file, besides one for each `PART` bytes; each costs some microseconds."""

PART = 500

SLOW_PIXELS, SLOW_BYTES = 1_000_000, 8_000_000
"""Limits of a picture that Pillow decodes in Python, at a microsecond or more for each byte."""


class MeteredBytes(io.BytesIO):
    """A file in memory that stops a reader which takes it in too many parts.

    `opening` tells whether its header is being read.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.opening = True
        self._parts, self._header = MOST_READS + len(data) // PART, MOST_HEADER

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._parts -= 1
        if self._parts < 0:
            raise ImageError("too many parts: its header or text has too many; save it as PNG")
        if self.opening and size is not None and size >= 0:
            self._header -= len(data)
            if self._header < 0:
                raise ImageError(
                    f"too large: more than {MOST_HEADER // 10**6} MB stand before its pixels; save "
                    "it without metadata"
                )
        return data


def give_back() -> None:
    """Return freed memory to the system; glibc would keep all that each thread ever used."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


class MemoryBudget:
    """Bytes that threads share; whoever asks for more than are free waits."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def claim(self, nbytes: int) -> Iterator[None]:
        """Hold bytes while the block runs; all of them if it asks for more than there are."""
        nbytes = min(nbytes, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= nbytes)
            self._free -= nbytes
        try:
            yield
        finally:
            if nbytes >= TRIMMED:
                give_back()
            with self._changed:
                self._free += nbytes
                self._changed.notify_all()


BUDGET = MemoryBudget(IN_FLIGHT)


def memory_of(size: tuple[int, int], form: str | None) -> int:
    """Return the bytes that decoding takes at most; exact figures depend on the format."""
    return size[0] * size[1] * BYTES_PER_PIXEL.get(form or "", OF_ANY_FORMAT)


def require_few_pixels(size: tuple[int, int], limit: int = MAX_PIXELS) -> None:
    """Raise `ImageError` for a picture of no pixels, or of more than may be decoded."""
    width, height = size
    pixels = width * height
    if pixels == 0:
        raise ImageError(f"no pixels: its size is {width} by {height}")
    if pixels > limit:
        raise ImageError(
            f"too large: {width} by {height} is {pixels / 1e6:.0f} megapixels, "
            f"the limit is {limit / 1e6:.0f}"
        )


def require_quick(image: Image.Image, data: bytes) -> None:
    """Raise `ImageError` for a picture, just opened from `data`, that takes too long to decode."""
    require_few_pixels(image.size)
    pixels = image.width * image.height
    if image.format == "JPEG2000":
        require_few_pixels(image.size, IN_FLIGHT // BYTES_PER_PIXEL["JPEG2000"])
        require_usual(image)
    require_few_inside(image, data, MAX_PIXELS)
    if image.format == "JPEG":
        scans = data.count(b"\xff\xda")
        if scans * pixels > MOST_SCANNED:
            raise ImageError(
                f"too many scans: {scans:,} of {pixels / 1e6:.0f} megapixels, the limit is "
                f"{max(1, MOST_SCANNED // pixels):,}; save it as a JPEG that is not progressive"
            )
    tile: Any = getattr(image, "tile", None)
    slow = tile and tile[0].codec_name in Image.DECODERS
    if slow and (pixels > SLOW_PIXELS or len(data) > SLOW_BYTES):
        raise ImageError(
            f"too large for its kind: {image.format} as text, with run lengths or of unusual depth "
            f"is read slowly, so the limits are {SLOW_PIXELS / 1e6:.0f} megapixel and "
            f"{SLOW_BYTES // 10**6} MB; save it as PNG"
        )
