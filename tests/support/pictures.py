"""Pictures of noise, encoded in any format, and the pixels that are read from them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from frozen_vqa.pipeline.encoders.preprocess import load_rgb


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(picture: Path | bytes | Image.Image) -> np.ndarray:
    image = load_rgb(picture)
    assert image.mode == "RGB"
    return np.asarray(image)
