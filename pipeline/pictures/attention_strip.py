"""A strip for each question: the picture, then one heat map a word, all on one scale."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import require_own_file
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.pictures.contact_sheet import FONT_SIZE, INK, MARGIN, PAPER, fit
from frozen_vqa.pipeline.system.texts import printable

TILE, TITLE = 160, 2 * FONT_SIZE
MOST_TILES = 40
"""In a row; a longer question is cut, because no picture shows it."""
HEAT = np.array((232, 89, 12))
STRONGEST = 0.85
"""Share of the heat's colour where attention is largest."""
MARK = "frozen-vqa ask"


@dataclass(frozen=True)
class Strip:
    """One question: its title, and of each word its (rows, columns) map, which adds up to 1."""

    title: str
    words: Sequence[str]
    maps: np.ndarray


def require_own_strip(path: Path) -> None:
    """Raise `PipelineError` unless a file is absent or a strip of ours."""
    require_own_file(
        path,
        lambda found: found[:8] == b"\x89PNG\r\n\x1a\n" and MARK.encode() in found[:200],
        PipelineError,
        "--save-attention",
    )


def attention_strip(picture: Image.Image, strips: Sequence[Strip], path: Path) -> None:
    """Draw strips of an RGB picture into a PNG; raise `PipelineError` if it cannot be written.

    Within a strip the largest weight has the strongest colour, so that its maps can be compared.
    """
    font = ImageFont.load_default(FONT_SIZE)
    tiles = min(MOST_TILES, max(len(strip.words) for strip in strips))
    step, height = TILE + MARGIN, TITLE + TILE + FONT_SIZE + MARGIN
    size = (MARGIN + (tiles + 1) * step, MARGIN + len(strips) * height)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    small = picture.resize((TILE, TILE), Image.Resampling.LANCZOS)
    for i, strip in enumerate(strips):
        y = MARGIN + i * height
        title = fit(printable(strip.title), font, size[0] - 2 * MARGIN)
        draw.text((MARGIN, y), title, INK, font)
        sheet.paste(small, (MARGIN, y + TITLE))
        largest = float(strip.maps.max())
        for j, word in enumerate(strip.words[:tiles], start=1):
            x = MARGIN + j * step
            sheet.paste(heat(small, strip.maps[j - 1] / largest), (x, y + TITLE))
            label = fit(printable(word), font, TILE)
            draw.text((x, y + TITLE + TILE + 2), label, INK, font)
    info = PngInfo()
    info.add_text("Software", MARK)
    data = io.BytesIO()
    sheet.save(data, format="PNG", pnginfo=info)
    with explain_write_errors(path, PipelineError, "Make room or give another --save-attention."):
        write_atomically(path, data.getbuffer())


def heat(picture: Image.Image, strength: np.ndarray) -> Image.Image:
    """Lay (rows, columns) strengths from 0 to 1 over a grey copy of a picture."""
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float64)
    fine = Image.fromarray((255 * strength).round().astype(np.uint8)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    share = STRONGEST * np.asarray(fine, dtype=np.float64)[..., None] / 255
    return Image.fromarray((grey * (1 - share) + HEAT * share).round().astype(np.uint8))
