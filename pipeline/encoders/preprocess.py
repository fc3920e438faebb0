"""Pictures for the vision encoder: upright, opaque, 8-bit RGB, and resized.

    Picture ── load_rgb ── PIL RGB image ──┬─ fit_whole   the whole picture, squeezed to one size
                                           └─ fit_crop    shortest edge, then the middle square

Every picture goes through `load_rgb` once, so a rotated phone photo, a transparent PNG or a 16-bit
scan looks the same to the encoder as to a person. Both fits give the pixels of the processor that
DINOv2 was published with (`BitImageProcessor`, PIL backend), bit for bit.
"""

import errno
import io
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.Image import Resampling

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.encoders.picture_files.budget import (
    BIG_FILE,
    BUDGET,
    IN_FLIGHT,
    MAX_PIXELS,
    MeteredBytes,
    memory_of,
    require_few_pixels,
    require_quick,
)
from frozen_vqa.pipeline.encoders.picture_files.dicom import DicomPicture, is_dicom
from frozen_vqa.pipeline.encoders.picture_files.kinds import FORMATS, format_of, other_kind
from frozen_vqa.pipeline.encoders.picture_files.nvjpeg import fit_on_gpu
from frozen_vqa.pipeline.encoders.picture_files.tiff import why_unopened
from frozen_vqa.pipeline.encoders.picture_files.upright import largest_value, unread, upright_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.sources.example import Picture
from frozen_vqa.pipeline.sources.pictures.stored import MAX_BYTES, StoredPicture

T = TypeVar("T")

# `warnings.catch_warnings` swaps a process-wide list, so only one thread may be inside it. Reading
# a header in memory takes microseconds.
_OPENING = threading.Lock()


AS_IT_IS = Reading()


def load_rgb(picture: Picture, reading: Reading = AS_IT_IS) -> Image.Image:
    """Return `picture` upright, without transparency, in 8-bit RGB.

    EXIF rotation is applied once, transparent pixels are composed on white, 16-bit and float
    values are rescaled, and an animation gives its first frame. If there is no readable picture,
    an `ImageError` has the reason, without the name of a file: `Source.where` has the name.
    """
    return fit_rgb(picture, lambda image: image, replace(reading, gpu=None))


def fit_rgb(
    picture: Picture,
    fit: Callable[[Image.Image], T],
    reading: Reading = AS_IT_IS,
    seen: Callable[[bytes], None] | None = None,
) -> T:
    """Return what `fit` makes of `load_rgb(picture)`; its memory is claimed until `fit` is done.

    `seen` gets the bytes that are decoded, if the picture has any.
    """
    with _opened(picture, seen) as image:
        if reading.gpu and isinstance(image, Image.Image):
            found = fit_on_gpu(image, fit, reading.gpu)
            if found is not None:
                return found
        with _explained(image.format):
            if isinstance(image, DicomPicture):
                with _without_warnings():
                    rgb = image.upright_rgb(reading.window)
            else:
                reading.reduce(image)
                rgb = upright_rgb(image, reading.window)
        fitted = fit(rgb)
        del image, rgb  # before others have their memory
        return fitted


def largest_of_16_bits(picture: Picture) -> int | None:
    """Return the largest value of a picture of 16 bits, which may be fewer; None for any other."""
    with _opened(picture) as image, _explained(image.format):
        return None if isinstance(image, DicomPicture) else largest_value(image)


@contextmanager
def _opened(
    picture: Picture, seen: Callable[[bytes], None] | None = None
) -> Iterator[Image.Image | DicomPicture]:
    """Open a picture and claim the memory that its decoding takes."""
    begin = picture.read(BIG_FILE) if isinstance(picture, StoredPicture) else b""
    big = len(begin) > BIG_FILE or (isinstance(picture, Path) and _bytes_of(picture) > BIG_FILE)
    with BUDGET.claim(IN_FLIGHT) if big else nullcontext():
        if isinstance(picture, Image.Image):
            image: Image.Image | DicomPicture = picture
            require_quick(picture, b"")
        else:
            data = picture if isinstance(picture, bytes) else _read(picture, begin)
            del begin
            if seen:
                seen(data)
            image = _open(data)
            del data
        with nullcontext() if big else BUDGET.claim(memory_of(image.size, image.format)):
            yield image
            del image


@contextmanager
def _explained(form: str | None) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise nearly any class on damaged bytes
        raise _undecoded(form, error) from error


def fit_whole(
    image: Image.Image, sides: tuple[int, int], *, resample: Resampling
) -> npt.NDArray[np.uint8]:
    """Squeeze a whole RGB picture to (height, width, 3), so that no object is cut off."""
    height, width = sides
    return np.array(image.resize((width, height), resample=resample))


def fit_crop(
    image: Image.Image, *, size: int, shortest_edge: int | None, resample: Resampling
) -> npt.NDArray[np.uint8]:
    """Resize to `shortest_edge` with the aspect kept, then cut the middle (size, size, 3) out.

    None does not resize. Where the picture is smaller than what is cut out, the rest is black.
    """
    shorter = min(image.size)
    shortest_edge = shortest_edge or shorter
    # int() truncates, as the processor does; rounding would differ by a row of pixels.
    width, height = (
        shortest_edge if edge == shorter else int(shortest_edge * edge / shorter)
        for edge in image.size
    )
    if width * height > MAX_PIXELS:  # 1×5000 pixels would grow to 256×1,280,000 and a gigabyte
        return _fit_crop_of_strip(image, size, (width, height), resample)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), resample=resample)
    return np.array(resized.crop((left, top, left + size, top + size)))


def _fit_crop_of_strip(
    image: Image.Image, size: int, resized: tuple[int, int], resample: Resampling
) -> npt.NDArray[np.uint8]:
    """Do the same as `fit_crop`, up to rounding, without computing the part that is cut off."""
    box, kept = [], []
    for edge, new in zip(image.size, resized, strict=True):
        start = max(0, (new - size) // 2)
        kept.append(min(size, new))
        box.append((start * edge / new, (start + kept[-1]) * edge / new))
    (x0, x1), (y0, y1) = box
    part = image.resize((kept[0], kept[1]), resample=resample, box=(x0, y0, x1, y1))
    left, top = (min(0, (edge - size) // 2) for edge in kept)
    return np.array(part.crop((left, top, left + size, top + size)))


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # `_read` says why
        return 0


def _read(path: Path | StoredPicture, begin: bytes) -> bytes:
    """Return the content of a file; `begin` is what has been read of one at a URL."""
    if isinstance(path, StoredPicture):
        data = begin if len(begin) <= BIG_FILE else path.read(MAX_BYTES)
        if len(data) > MAX_BYTES:
            raise ImageError(f"too large: more than {MAX_BYTES:,} bytes")
        return data
    try:
        if path.is_dir():
            raise ImageError("it is a folder")
        return read_file(path, most=MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("the file is missing") from None
    except PermissionError:
        raise ImageError("no permission to read the file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        if isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.EFBIG):
            too_large = "too large: " if error.errno == errno.EFBIG else ""
            raise ImageError(f"{too_large}{error.strerror}") from None
        raise ImageError(f"cannot be read ({_reason(error)})") from error


def _open(data: bytes) -> Image.Image | DicomPicture:
    """Read the header; the pixels stay undecoded until their number is checked."""
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    try:
        with _without_warnings():  # the size that Pillow warns about is checked here
            return _open_dicom(data) if is_dicom(data) else _open_image(data)
    except Image.DecompressionBombError:
        raise ImageError(f"too large: the limit is {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise _not_an_image(data) from None
    except Exception as error:  # as for decoding
        raise _undecoded(format_of(data), error) from error


def _open_image(data: bytes) -> Image.Image:
    file = MeteredBytes(data)
    image = Image.open(file, formats=FORMATS)
    file.opening = False
    require_quick(image, data)
    return image


def _open_dicom(data: bytes) -> DicomPicture:
    picture = DicomPicture(data)
    require_few_pixels(picture.size)
    picture.require_known(_open_image)
    return picture


def _not_an_image(data: bytes) -> ImageError:
    if data.startswith(b"version https://git-lfs"):
        return ImageError("a git-lfs pointer in place of the picture: run `git lfs pull`")
    form = format_of(data)
    if form and form in FORMATS:
        if reason := _why_unopened(form, data):
            return unread(form, reason)
        return ImageError(f"truncated or damaged (it starts like a {form} file)")
    return ImageError(f"not an image but {other_kind(data)}; the formats are {', '.join(FORMATS)}")


@contextmanager
def _without_warnings() -> Iterator[None]:
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _why_unopened(form: str, data: bytes) -> str | None:
    """Return which kind of a format is not read; None if the file is damaged."""
    with _without_warnings():
        if form == "TIFF":
            return why_unopened(data)
        try:
            Image.OPEN[form][0](io.BytesIO(data), "")  # `Image.open` keeps the reason to itself
        except Exception as error:  # as for decoding
            found = re.search(r"cannot handle (\d+-(?:bit|layer))", str(error))
            return found and found[1]
    return None


def _undecoded(form: str | None, error: Exception) -> ImageError:
    reason = _reason(error)
    if form and re.match(r"(?i)unsupported|unknown raw mode", reason):
        return unread(form, reason)
    return ImageError(f"truncated or damaged ({reason})")


def _reason(error: Exception) -> str:
    """Return the words of an error, without the errno and path that an OSError repeats."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
