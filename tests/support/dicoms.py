"""DICOM files of made-up pictures."""

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def dicom(values: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, **fields: Any) -> bytes:
    """A file of values, (height, width) or (height, width, 3), without fields that are None."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    bits = values.dtype.itemsize * 8
    known: dict[str, Any] = {
        "Modality": "CT",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": values.shape[2] if values.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if values.ndim == 3 else "MONOCHROME2",
        "PlanarConfiguration": 0 if values.ndim == 3 else None,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "PixelData": values.tobytes() + b"\0" * (values.nbytes % 2),
    }
    for name, value in (known | fields).items():
        if value is not None:
            setattr(one, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, one, enforce_file_format=True)
    return buffer.getvalue()
