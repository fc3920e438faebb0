"""DICOM files of one picture, with pydicom: grey ones through their window, or in colour.

A grey value is rescaled first (slope and intercept, to Hounsfield units in a CT), then the window
maps a range of values to black and white. Source: DICOM PS3.3, C.7.6.3, C.11.1 and C.11.2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from frozen_vqa.pipeline.encoders.picture_files.budget import MeteredBytes
from frozen_vqa.pipeline.encoders.picture_files.levels import Window, to_levels
from frozen_vqa.pipeline.errors import ImageError

DEFLATED = b"1.2.840.10008.1.2.1.99"
GREY, COLOUR = (
    ("MONOCHROME1", "MONOCHROME2"),
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
)


def is_dicom(data: bytes) -> bool:
    """Whether a file begins as one of DICOM does."""
    return data[128:132] == b"DICM"


@dataclass(frozen=True)
class DicomPicture:
    """A DICOM file whose pixels are not decoded yet.

    Raises:
        ImageError: if pydicom is not installed, or the file is damaged or not of one picture.
    """

    data: bytes
    format = "DICOM"

    @cached_property
    def head(self) -> Any:
        """Everything but the pixels."""
        try:
            import pydicom
        except ImportError:
            raise ImageError(
                "a DICOM file, and the package pydicom is not installed: "
                "pip install 'frozen-vqa[dicom]'"
            ) from None
        if DEFLATED in self.data:  # pydicom would unpack it before its size is known
            raise _unread("its content is compressed as a whole (deflated)")
        return pydicom.dcmread(MeteredBytes(self.data))

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        head = self.head
        if not any(
            name in head for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
        ):
            raise ImageError(
                f"a DICOM file without a picture (of the modality {_text(head, 'Modality')})"
            )
        frames = int(head.get("NumberOfFrames") or 1)
        if frames != 1:
            raise _unread(
                f"it has {frames:,} frames, and one is needed; save the one that is meant as a file"
            )
        kind = _text(head, "PhotometricInterpretation")
        if kind not in (*GREY, *COLOUR) or (kind in COLOUR and head.BitsAllocated != 8):
            raise _unread(f"{head.BitsAllocated}-bit {kind}; save it as 8-bit PNG")
        return int(head.Columns), int(head.Rows)

    def require_known(self, opened: Callable[[bytes], Image.Image]) -> None:
        """Raise unless the compression is known; `opened` opens what it holds, within limits."""
        from pydicom.encaps import get_frame
        from pydicom.pixels import get_decoder

        syntax = self.head.file_meta.TransferSyntaxUID
        try:
            known = get_decoder(syntax).is_available
        except NotImplementedError:
            known = False
        if not known:
            raise _unread(f"its compression is {syntax.name}; save it without compression")
        if not syntax.is_encapsulated or "RLE" in syntax.name:
            return
        try:
            frame = opened(get_frame(self.head.PixelData, 0, number_of_frames=1))
        except ImageError as error:
            raise ImageError(f"a DICOM file of {syntax.name}: {error}") from None
        except UnidentifiedImageError:
            raise ImageError(f"truncated or damaged (no {syntax.name} in it)") from None
        if frame.size != self.size:
            raise ImageError(
                f"truncated or damaged (its picture has {frame.size} pixels, {self.size} declared)"
            )

    def upright_rgb(self, window: Window | None) -> Image.Image:
        """Decode the picture; a grey one through `window`, or through its own without one."""
        from pydicom.pixels import pixel_array

        values = pixel_array(self.head)
        if self.head.PhotometricInterpretation in GREY:
            levels = self._grey(values, window)
            values = 255 - levels if self.head.PhotometricInterpretation == GREY[0] else levels
        return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")

    def _grey(
        self, values: npt.NDArray[np.generic], window: Window | None
    ) -> npt.NDArray[np.uint8]:
        head = self.head
        if "ModalityLUTSequence" in head:
            raise _unread("its values are numbers of a table (Modality LUT)")
        numbers = values.astype(np.float64)
        numbers *= _number(head, "RescaleSlope", 1)
        numbers += _number(head, "RescaleIntercept", 0)
        if window is None and "WindowCenter" in head and "WindowWidth" in head:
            centre, width = _number(head, "WindowCenter", 0), _number(head, "WindowWidth", 1)
            shape = _text(head, "VOILUTFunction") or "LINEAR"
            least = 1 if shape == "LINEAR" else 0
            if not width >= least or width == 0:
                raise ImageError(f"truncated or damaged (its window is {width:g} wide)")
            if shape == "SIGMOID":
                numbers -= centre
                # 1 / (1 + exp(-4x / width)), which no large number overflows
                return to_levels(0.5 + 0.5 * np.tanh(numbers * (2 / width)), (0, 1))
            if shape not in ("LINEAR", "LINEAR_EXACT"):
                raise _unread(f"its window has the shape {shape}; give --window LOW HIGH")
            middle, half = (centre - 0.5, (width - 1) / 2) if least else (centre, width / 2)
            half = half or 1e-9  # all that is above is white
            window = (middle - half, middle + half)
        elif window is None and "VOILUTSequence" in head:
            raise _unread("its levels stand in a table (VOI LUT); give --window LOW HIGH")
        if window is None:  # as viewers do
            low, high = float(numbers.min()), float(numbers.max())
            window = (low, high if high > low else low + 1)
        return to_levels(numbers, window)


def _unread(reason: str) -> ImageError:
    return ImageError(f"a DICOM file of a kind that is not read: {reason}")


def _text(head: Any, name: str) -> str:
    return "".join(c for c in str(head.get(name) or "") if c.isalnum() or c in " _")[:40]


def _number(head: Any, name: str, default: float) -> float:
    """Return a number of the file, the first of several, such as of windows."""
    from pydicom.multival import MultiValue

    found = head.get(name)
    if isinstance(found, MultiValue | list | tuple):
        found = found[0] if len(found) else None
    value = default if found is None else float(found)
    if not np.isfinite(value):
        raise ImageError(f"truncated or damaged ({name} is {value})")
    return value
