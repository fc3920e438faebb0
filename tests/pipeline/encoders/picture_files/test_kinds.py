"""What is no picture that is read is named for what it is."""

import pytest

from frozen_vqa.pipeline.encoders import preprocess
from frozen_vqa.pipeline.encoders.picture_files import kinds
from frozen_vqa.pipeline.encoders.picture_files.kinds import FORMATS, format_of, other_kind
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from tests.support.pictures import encoded, noise, pixels

BEGINNINGS = {
    "HTML": [b"<!DOCTYPE html>", b"\n<html>", b"<!doctype HTML>"],
    "SVG": [b"<svg xmlns="],
    "XML": [b"<?xml version"],
    "PDF": [b"%PDF-1.7"],
    "a ZIP archive": [b"PK\x03\x04"],
    "gzip data": [b"\x1f\x8b\x08"],
    "an archive": [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a", b"x" * 257 + b"ustar"],
    "an array of numpy": [b"\x93NUMPY"],
    "an HDF5 file": [b"\x89HDF\r\n"],
    "a Parquet file": [b"PAR1"],
    "a NIfTI file": [bytes(344) + b"n+1\0", bytes(344) + b"ni1\0"],
    "a HEIC picture": [b"\0\0\0\x18ftypheic", b"\0\0\0\x24ftypheix", b"\0\0\0\x24ftyphevc"],
    "a HEIF picture": [b"\0\0\0\x18ftypmif1"],
    "a raw picture of a camera": [b"\0\0\0\x18ftypcrx "],
    "a video": [
        b"\0\0\0\x20ftypisom",
        b"\0\0\0\x14ftypqt  ",
        b"RIFFxxxxAVI LIST",
        b"\x1aE\xdf\xa3",
    ],
    "a sound": [b"RIFFxxxxWAVEfmt ", b"ID3\x04", b"OggS", b"fLaC"],
    "a picture of the format JPEG XL": [b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "a picture of the format PSD": [b"8BPS"],
    "a picture of the format OpenEXR": [b"\x76\x2f\x31\x01"],
    "a picture of the format FITS": [b"SIMPLE  =      T"],
    "text": [b"hello", "\u00e4".encode()],
    "binary data": [b"\x01\x02\x03"],
}
CASES = [(kind, start) for kind, starts in BEGINNINGS.items() for start in starts]


@pytest.mark.parametrize(("kind", "start"), CASES)
def test_each_kind_is_named_by_its_first_bytes(kind: str, start: bytes) -> None:
    for data in (start, start + bytes(2000) if kind != "text" else start):
        with pytest.raises(ImageError, match=f"^not an image but {kind}; the formats are JPEG"):
            load_rgb(data)


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_known_by_its_first_bytes(form: str) -> None:
    data = encoded(noise(9, 5), form)
    assert format_of(data) == (form if form != "PPM" else None)  # two letters of text
    assert pixels(data).shape == (5, 9, 3)
    for cut in (data[:24], data[: len(data) // 2]):
        with pytest.raises(ImageError, match=r"truncated or damaged|not an image but (text|bin)"):
            load_rgb(cut)


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000"])
def test_a_format_that_pillow_lacks_is_named(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(9, 5), form)
    fewer = tuple(one for one in FORMATS if one != form)
    monkeypatch.setattr(kinds, "FORMATS", fewer)
    monkeypatch.setattr(preprocess, "FORMATS", fewer)

    with pytest.raises(ImageError, match=f"not an image but a picture of the format {form}, which"):
        load_rgb(data)
    assert form in other_kind(data)
