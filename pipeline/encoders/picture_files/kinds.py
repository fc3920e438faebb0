"""What kind of file it is, by its first bytes: a picture that is read, or what stands in its place.

Names of files do not count, because many pictures have a wrong one.
"""

import re

from PIL import features

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"),
    *(("JPEG2000",) if features.check("jpg_2000") else ()),
    *(("AVIF",) if features.check("avif") else ()),
)
"""The formats that Pillow may try. Its other readers start programs or are seldom tested."""

_MAGIC = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF....WEBP": "WEBP",
    b"GIF8": "GIF",
    b"BM": "BMP",
    rb"(II[*+]\x00|MM\x00[*+])": "TIFF",
    rb"(\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51)": "JPEG2000",
    rb"....ftypavi[fs]": "AVIF",
}

_OTHERS = {
    rb"(?i:\s*<(!doctype|html))": "HTML",
    rb"\s*<svg": "SVG",
    rb"\s*<\?xml": "XML",
    rb"\s*%PDF": "PDF",
    rb"\s*%!PS": "PostScript",
    rb"PK\x03\x04": "a ZIP archive",
    rb"\x1f\x8b": "gzip data",
    rb"(7z\xbc\xaf|Rar!|\xfd7zXZ|BZh|.{257}ustar)": "an archive",
    rb"\x93NUMPY": "an array of numpy",
    rb"\x89HDF": "an HDF5 file",
    rb"PAR1": "a Parquet file",
    rb".{128}DICM": "a DICOM file",
    rb".{344}(n[+i]1\x00)": "a NIfTI file",
    rb"SIMPLE  =": "a picture of the format FITS",
    rb"P7\n": "a picture of the format PAM",
    rb"P[Ff]\n": "a picture of the format PFM",
    rb"8BPS": "a picture of the format PSD",
    rb"\x00\x00\x01\x00": "a picture of the format ICO",
    rb"(\x00\x00\x00\x0cJXL |\xff\x0a)": "a picture of the format JPEG XL",
    rb"\x76\x2f\x31\x01": "a picture of the format OpenEXR",
    rb"DDS ": "a picture of the format DDS",
    rb"qoif": "a picture of the format QOI",
    rb"....ftyp(hei[cxsm]|hev[cx])": "a HEIC picture",
    rb"....ftyp(mif1|msf1)": "a HEIF picture",
    rb"....ftypcrx ": "a raw picture of a camera",
    rb"(....(ftyp|moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF....AVI |\x00\x00\x01\xba)": "a video",
    rb"(RIFF....WAVE|ID3|OggS|fLaC)": "a sound",
}
"""What else is often found in place of a picture; the first that fits counts."""


def format_of(data: bytes) -> str | None:
    """Return the format that a file begins like, whether or not Pillow can read it here."""
    return _first(_MAGIC, data)


def other_kind(data: bytes) -> str:
    """Return what a file is that is no picture; never its bytes: a link may lead to anything."""
    if (form := format_of(data)) and form not in FORMATS:
        return f"a picture of the format {form}, which this installation of Pillow does not read"
    if named := _first(_OTHERS, data):
        return named
    return "binary data" if re.search(rb"[\x00-\x08\x0e-\x1f]", data[:512]) else "text"


def _first(kinds: dict[bytes, str], data: bytes) -> str | None:
    start = data[:512]
    return next((kind for magic, kind in kinds.items() if re.match(magic, start, re.DOTALL)), None)
