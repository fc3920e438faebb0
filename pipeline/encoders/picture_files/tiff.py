"""Which TIFF files are read: those whose pixels come out as they were written.

TIFF allows nearly any kind of sample. Pillow opens some kinds and gives other pixels in silence:
signed samples as unsigned ones, compressed big-endian floats with their bytes swapped. So what is
not known to be right is refused, and the reason names it.
"""

import io
from collections.abc import Sequence

from PIL.TiffImagePlugin import ImageFileDirectory_v2

BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANES = 258, 259, 262, 274, 277, 284
COLOUR_MAP, SAMPLE_FORMAT, SUBSAMPLING = 320, 339, 530

WHITE_IS_ZERO, RGB, PALETTE, YCBCR = 0, 2, 3, 6
"""Values of PHOTOMETRIC, what the samples of a pixel mean."""

UNSIGNED, FLOAT = 1, 3
_KINDS = {
    UNSIGNED: "unsigned",
    2: "signed",
    FLOAT: "float",
    4: "untyped",
    5: "complex",
    6: "complex",
}


def why_unread(tags: ImageFileDirectory_v2) -> str | None:
    """Return what in these tags is not read, or None if all of it is."""
    bits, kind = _several(tags, BITS), max(_several(tags, SAMPLE_FORMAT))
    swapped = tags.prefix == b"MM" and tags.get(COMPRESSION, 1) != 1
    if kind == FLOAT and max(bits) == 32 and swapped:
        return "32-bit float samples in big-endian order and compressed"
    if not (kind == FLOAT and max(bits) == 32) and not (kind == UNSIGNED and max(bits) <= 16):
        return f"{max(bits)}-bit {_KINDS.get(kind, 'unknown')} samples"
    photometric, samples = tags.get(PHOTOMETRIC, WHITE_IS_ZERO), tags.get(SAMPLES, 1)
    planar = tags.get(PLANES, 1) == 2 and samples > 1
    if planar and (photometric, samples, max(bits)) != (RGB, 3, 8):
        return "a plane for each channel, and not 8-bit red, green and blue"
    shared = tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1)
    if photometric == YCBCR and shared and tags.get(COMPRESSION, 1) == 1:
        return "uncompressed YCbCr with one colour for several pixels"
    if photometric == PALETTE and 0 < max(_several(tags, COLOUR_MAP)) < 256:
        return "a palette of 8-bit colours in place of 16-bit ones"
    return None


def why_unopened(data: bytes) -> str | None:
    """Return the kind of a TIFF that Pillow does not open, or None if its tags are damaged."""
    try:
        tags = ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        bits, order = _several(tags, BITS), "big" if tags.prefix == b"MM" else "little"
        return why_unread(tags) or (
            f"{tags.get(SAMPLES, len(bits))} x {max(bits)} bits a pixel, photometric "
            f"interpretation {tags[PHOTOMETRIC]}, {order}-endian"
        )
    except MemoryError:
        raise
    except Exception:  # as for any damaged file, nearly any class
        return None


def _several(tags: ImageFileDirectory_v2, tag: int) -> Sequence[int]:
    found = tags.get(tag, 1)
    return found if isinstance(found, tuple) else (found,)
