"""Values of pictures and the 8-bit pixels that they mean, without a line of the code under test."""

import struct
from typing import Any

import numpy as np


def ramp(bits: int, channels: int = 1, *, shape: tuple[int, int] = (3, 5)) -> np.ndarray:
    """Values of all levels: the first pixel is 0, the second the largest, the rest spread."""
    count = shape[0] * shape[1] * channels
    top = 2**bits - 1
    values = [(i * 0.618) % 1 * top for i in range(count)]
    grid = np.array([round(value) for value in values]).reshape(*shape, channels)
    grid[0, 0], grid[0, 1] = 0, top
    return grid[..., 0] if channels == 1 else grid


def levels(values: np.ndarray, bits: int) -> np.ndarray:
    """The right 8-bit pixels, (height, width, 3), of samples."""
    scaled = np.rint(np.asarray(values, float) * 255 / (2**bits - 1)).astype(int)
    return np.repeat(scaled[..., None], 3, axis=-1) if scaled.ndim == 2 else scaled


def on_white(pixels: np.ndarray, alpha: Any) -> np.ndarray:
    """Mix 8-bit pixels with white; `alpha` (height, width) is 0 to 1."""
    share = np.asarray(alpha, float)[..., None]
    return np.rint(pixels * share + 255 * (1 - share)).astype(int)


def uint16(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *map(int, values))


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of D50 as 8-bit sRGB. Source: ICC.1:2010, IEC 61966-2-1, Bradford adaptation."""
    lightness = (lab[..., 0] * 100 / 255 + 16) / 116
    a, b = ((lab[..., i] + 128) % 256 - 128.0 for i in (1, 2))
    curved = np.stack([lightness + a / 500, lightness, lightness - b / 200], axis=-1)
    linear = np.where(curved > 6 / 29, curved**3, 3 * (6 / 29) ** 2 * (curved - 4 / 29))
    matrix = [
        [3.1341359, -1.6173863, -0.4906619],
        [-0.9787955, 1.9162543, 0.0334427],
        [0.0719550, -0.2289769, 1.4053859],
    ]
    rgb = np.clip(linear * [0.9642, 1, 0.8249] @ np.transpose(matrix), 0, 1)
    return np.rint(255 * np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055))


def ycbcr_to_rgb(values: np.ndarray) -> np.ndarray:
    """Source: ITU-T T.871, JFIF."""
    y, cb, cr = (values[..., i] - offset for i, offset in enumerate((0.0, 128, 128)))
    rgb = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return np.clip(np.rint(np.stack(rgb, axis=-1)), 0, 255)
