"""JPEGs that a GPU decodes and resizes, with nvJPEG, in the threads that read pictures.

The pixels are not those of Pillow, so a cache records this way. Only a JPEG of the usual kind takes
it, which the file alone decides; Pillow decodes every other picture.

nvJPEG comes through TorchCodec: torchvision has given up its own decoder (0.29), which also writes
into memory that another stream still reads (pytorch/vision#9606; mended in TorchCodec 0.17).
Besides, each thread has a stream of its own here, so it never gets the memory of a running encoder.
"""

import re
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from frozen_vqa.pipeline.encoders.picture_files.upright import orientation
from frozen_vqa.pipeline.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, device

T = TypeVar("T")

OPTION = "--gpu-jpegs"
FILTERS = {Resampling.BILINEAR: "bilinear", Resampling.BICUBIC: "bicubic"}
"""What PyTorch calls the filters of Pillow that it has, too."""

AT_ONCE = threading.BoundedSemaphore(32)
"""TorchCodec keeps so many decoders of a GPU, and makes one anew for every further thread."""

START_OF_SCAN, END = b"\xff\xda", b"\xff\xd9"

OF_THE_PICTURE = re.compile(r": (3|4|10)$|Unknown chroma subsampling")
"""What TorchCodec says of a picture that is damaged, of a kind that nvJPEG does not read, or cut.

Source: `nvjpegStatus_t` of nvJPEG's documentation.
"""

_OWN = threading.local()


def require_nvjpeg(gpu: "device", resample: Resampling, name: str) -> str:
    """Return the device as `fit_on_gpu` takes it; `ModelError` if it does not decode JPEGs.

    `resample` is the filter of the model that is called `name`.
    """
    if gpu.type != "cuda":
        raise ModelError(f"{OPTION} needs a GPU of CUDA, and the device is {gpu}; leave it out")
    if resample not in FILTERS:
        raise ModelError(
            f"{name} resizes pictures with {resample.name.lower()}, and a GPU has bilinear and "
            f"bicubic; leave out {OPTION}"
        )
    file = BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    try:
        with _own_stream(str(gpu)):
            _decode(file.getvalue(), str(gpu))
    except ImportError:
        raise ModelError(
            f"{OPTION} needs torchcodec, which is not installed here; "
            f"`pip install 'frozen-vqa[nvjpeg]'` brings it"
        ) from None
    except (OSError, RuntimeError) as error:  # a build for CPUs, or for another CUDA
        raise ModelError(
            f"JPEGs cannot be decoded on {gpu} ({_shortened(error)}); install the build of "
            f"torchcodec for the CUDA of torch, or leave out {OPTION}"
        ) from error
    return str(gpu)


def fit_on_gpu(image: Image.Image, fit: Callable[[Image.Image], T], gpu: str) -> T | None:
    """Return what `fit` makes of an opened picture that a GPU decodes; None if Pillow has to.

    Args:
        fit: Resizes and cuts, and returns numbers in memory.
        gpu: From `require_nvjpeg`.

    Raises:
        ModelError: if the GPU fails, or has too little memory.
    """
    data = usual_jpeg(image)
    if data is None:
        return None
    try:
        with _own_stream(gpu):
            return fit(cast(Image.Image, GpuPicture(_decode(data, gpu))))
    except RuntimeError as error:
        if not OF_THE_PICTURE.search(str(error)):
            raise ModelError(
                f"a JPEG cannot be decoded on {gpu} ({_shortened(error)}); use a smaller "
                f"--batch-size if its memory does not suffice, or leave out {OPTION}"
            ) from error
    return None


def usual_jpeg(image: Image.Image) -> bytes | None:
    """Return the bytes of a JPEG that nvJPEG decodes as Pillow does, up to rounding; else None.

    It is upright, complete, and in the colours of JFIF. TorchCodec would turn a picture by its own
    reading of EXIF, so it gets none.
    """
    info = image.info
    ycc = "jfif" in info or info.get("adobe_transform") == 1
    if image.format != "JPEG" or image.mode != "RGB" or not ycc or orientation(image) != 1:
        return None
    file = getattr(image, "fp", None)
    data = file.getvalue() if isinstance(file, BytesIO) else b""
    complete = data.rfind(END) > data.rfind(START_OF_SCAN)
    return data.replace(b"Exif\0\0", b"none\0\0") if complete else None


class GpuPicture:
    """What the fits of pictures need of a PIL image, in pixels (3, height, width) of uint8.

    Resized numbers are those of Pillow up to its rounding between rows and columns.
    """

    def __init__(self, pixels: "Tensor") -> None:
        self.pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.pixels.shape[1:]
        return width, height

    def resize(self, size: tuple[int, int], resample: Resampling, box: Any = None) -> Any:
        """Resize to a width and a height; Pillow does it for a part (`box`), which is rare."""
        if box:
            return Image.fromarray(np.asarray(self)).resize(size, resample, box)
        from torch.nn.functional import interpolate

        if size == self.size:
            return self
        x = self.pixels[None].float()
        (x,) = interpolate(x, size[::-1], mode=FILTERS[resample], antialias=True)
        return GpuPicture(x.round_().clamp_(0, 255).byte())

    def crop(self, box: tuple[int, int, int, int]) -> "GpuPicture":
        """Cut out left, top, right, bottom; what lies outside is black."""
        from torch.nn.functional import pad

        (left, top, right, bottom), (width, height) = box, self.size
        return GpuPicture(pad(self.pixels, (-left, right - width, -top, bottom - height)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return (height, width, 3) uint8, copied from the GPU when all before is done."""
        return np.ascontiguousarray(self.pixels.permute(1, 2, 0).cpu().numpy())


def _decode(data: bytes, gpu: str) -> "Tensor":
    """Decode a JPEG to (3, height, width) uint8."""
    from torchcodec.decoders import decode_jpeg

    with AT_ONCE:
        found: Tensor = decode_jpeg(data, mode="RGB", device=gpu)
        return found


@contextmanager
def _own_stream(gpu: str) -> Iterator[None]:
    """Run in this thread's own stream of a GPU."""
    import torch

    streams = vars(_OWN).setdefault("streams", {})
    if gpu not in streams:
        streams[gpu] = torch.cuda.Stream(gpu)
    with torch.cuda.stream(streams[gpu]):
        yield


def _shortened(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...")
