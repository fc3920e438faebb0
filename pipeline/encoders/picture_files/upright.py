"""An opened picture as a person sees it: upright, opaque, 8-bit RGB.

Pillow decodes the pixels. Here stands what it leaves out or does in another way: the orientation,
whatever else is in the tags; the transparent value of a PNG; and the depth and polarity of grey.
Colour profiles (ICC) and gamma are not applied, as the processor of DINOv2 does not apply them.
"""

import io
import re
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, TiffImagePlugin
from PIL.Image import Transpose

from frozen_vqa.pipeline.encoders.picture_files import tiff
from frozen_vqa.pipeline.encoders.picture_files.jpeg2000 import Codestream, opened_codestream
from frozen_vqa.pipeline.encoders.picture_files.levels import Window, to_levels
from frozen_vqa.pipeline.errors import ImageError

ORIENTATION = 0x0112
TRANSPOSE = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What turns a picture upright that is stored with an orientation."""

_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}


def upright_rgb(image: Image.Image, window: Window | None = None) -> Image.Image:
    """Decode an opened picture and return it upright, on white, in 8-bit RGB.

    A grey picture of more than 8 bits shows the values of `window`, or without one all of its type.

    Raises:
        ImageError: if its kind is not read. Pillow raises nearly any other class on damage.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if reason := tiff.why_unread(image.tag_v2):
            raise unread("TIFF", reason)
        # It would turn the picture itself, and fail if another tag is damaged.
        image.load_end = lambda: None  # type: ignore[method-assign]
        rgb = _opaque(image, window)
    elif isinstance(image, PngImagePlugin.PngImageFile) and image.mode in ("1", "L", "I;16", "RGB"):
        rgb = _png_without_alpha(image, window)
    else:
        rgb = _opaque(image, window)
    method = TRANSPOSE.get(orientation(image))
    return rgb if method is None else rgb.transpose(method)


def unread(form: str, reason: str) -> ImageError:
    """Return the error for a picture of a kind that is not read."""
    return ImageError(f"{form} of a kind that is not read: {reason}; save it as 8-bit PNG")


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a decoded picture, 1 to 8; without it, that of its XMP.

    Pillow's own reader gives up at the first damaged tag.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = image.tag_v2.get(ORIENTATION)
    else:
        exif = image.info.get("exif", b"")
        if not exif and "Raw profile type exif" in image.info:  # hexadecimal, by ImageMagick
            lines = image.info["Raw profile type exif"].split("\n")[3:]
            digits = re.match("([0-9a-fA-F]{2})*", "".join(lines))
            exif = bytes.fromhex(digits[0] if digits else "")
        found = exif_orientation(exif)
    if isinstance(found, int):
        return found
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp")
    text = xmp.decode("latin-1") if isinstance(xmp, bytes) else str(xmp)
    match = re.search(r'tiff:Orientation(?:="|>)([1-8])', text)
    return int(match[1]) if match else 1


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation in an EXIF block, a TIFF header and a directory; None without one."""
    exif = re.sub(b"^(Exif\0\0){1,2}", b"", exif)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == ORIENTATION:
                letter = _INTEGERS.get(kind, "H")
                return int(struct.unpack_from(f"{order}{letter}", exif, place + 8)[0])
    except struct.error:  # the block ends before its directory does
        pass
    return None


def _png_without_alpha(image: PngImagePlugin.PngImageFile, window: Window | None) -> Image.Image:
    """Make the pixels of the one transparent colour white, compared at the depth of the file."""
    key, stored = image.info.get("transparency"), image.tile[0].args if image.tile else ""
    if key is None:
        return _opaque(image, window)
    low = _low_bytes(image) if stored == "RGB;16B" else None
    image.load()
    values = np.asarray(image)
    rgb = np.array(_opaque(Image.fromarray(values), window))
    if low is not None:
        values = values.astype(np.uint16) << 8 | low
    elif image.mode in ("L", "RGB"):
        top = {"L;2": 3, "L;4": 15}.get(str(stored), 255)
        key = (np.array(key) & top) * 255 // top  # Pillow rescales the pixels, not the key
    same = values == np.asarray(key)
    rgb[same.all(-1) if same.ndim == 3 else same] = 255
    return Image.fromarray(rgb)


def _low_bytes(image: PngImagePlugin.PngImageFile) -> npt.NDArray[np.uint8]:
    """Return the lower halves of 16-bit colours; Pillow keeps the higher ones only."""
    assert image.fp is not None
    place = image.fp.tell()
    image.fp.seek(0)
    again = PngImagePlugin.PngImageFile(io.BytesIO(image.fp.read()))
    image.fp.seek(place)
    again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
    return np.asarray(again)


def _opaque(image: Image.Image, window: Window | None) -> Image.Image:
    grey = image.mode == "F" or image.mode.startswith("I")
    stream = opened_codestream(image) if grey else None
    image.load()
    if grey:
        return Image.fromarray(_grey(image, stream, window)).convert("RGB")
    if image.has_transparency_data:
        # Plain convert("RGB") would drop alpha and show the pixels that the author has hidden.
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def largest_value(image: Image.Image) -> int | None:
    """Decode a grey picture of 16 bits; None if it is no such, or its file names fewer bits."""
    named = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(tiff.BITS)
    if not image.mode.startswith("I") or opened_codestream(image) or named == (12,):
        return None
    image.load()
    return int(np.asarray(image).max())


def _grey(
    image: Image.Image, stream: Codestream | None, window: Window | None
) -> npt.NDArray[np.uint8]:
    """Rescale a 16-bit or float grey picture; Pillow's own conversion saturates it to white."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    values = np.asarray(image)
    top = 65535.0
    if stream:  # Pillow moves its values up to 16 bits, and signed ones above zero
        values = values >> max(0, 16 - stream.bits)
        top = 2.0 ** min(16, stream.bits) - 1
        if window and stream.signed:
            values = values - np.int32(2 ** (stream.bits - 1))
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("holds values that are not finite")
    if window:
        levels = to_levels(values, window)
    else:
        if values.dtype.kind == "f":
            if low < 0 or high > 255:
                raise ImageError(
                    f"float values from {low:.4g} to {high:.4g}; 0 to 1 or 0 to 255 is needed, or "
                    f"--window LOW HIGH"
                )
            top = 1 if high <= 1 else 255
        elif low < 0 or high > 65535:
            raise ImageError(
                f"integers from {low:.0f} to {high:.0f}; 0 to 65,535 is needed, or "
                f"--window LOW HIGH"
            )
        elif tags.get(tiff.BITS) == (12,):
            top = 4095
        levels = to_levels(values, (0, top), np.float32)
    return 255 - levels if tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO else levels
