"""A sheet of pictures: each with its question and answers, and which predicted ones are right."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.system.texts import printable

TILE, TEXT, MARGIN = 224, 96, 16
INK, RIGHT, WRONG, PAPER = "#1f2328", "#1a7f37", "#cf222e", "#ffffff"
FONT_SIZE = 15
QUESTION_LINES = 2
SOFTWARE = "frozen-vqa"
"""What a sheet names as its writer, which tells ours from somebody's picture of the same name."""

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Tile:
    """One question about an RGB picture; `predictions` pairs names of heads with their answers."""

    image: Image.Image
    question: str
    truth: str
    predictions: Sequence[tuple[str, str]]


def is_sheet(data: bytes) -> bool:
    """Whether the bytes of a file are those of a sheet of ours."""
    return data.startswith(b"\x89PNG") and f"Software\0{SOFTWARE}".encode() in data[:200]


def contact_sheet(
    tiles: Sequence[Tile], path: Path, *, columns: int = 4, advice: str = "give another --out"
) -> None:
    """Draw the tiles into a PNG, row by row; raise `PipelineError` if it cannot be written."""
    font = ImageFont.load_default(FONT_SIZE)
    rows = -(-len(tiles) // columns)
    step = TILE + MARGIN
    sheet = Image.new("RGB", (columns * step + MARGIN, rows * (step + TEXT) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, tile in enumerate(tiles):
        x, y = MARGIN + i % columns * step, MARGIN + i // columns * (step + TEXT)
        sheet.paste(tile.image.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y))
        y += TILE + 6
        for line in _wrap(printable(tile.question), font):
            draw.text((x, y), line, INK, font)
            y += FONT_SIZE + 3
        for name, answer in tile.predictions:
            colour = RIGHT if answer == tile.truth else WRONG
            draw.text((x, y), fit(printable(f"{name}: {answer}"), font), colour, font)
            y += FONT_SIZE + 3
        if any(answer != tile.truth for _, answer in tile.predictions):
            draw.text((x, y), fit(printable(f"right answer: {tile.truth}"), font), INK, font)
    data = io.BytesIO()
    note = PngInfo()
    note.add_text("Software", SOFTWARE)
    sheet.save(data, format="PNG", pnginfo=note)
    with explain_write_errors(path, PipelineError, f"Free some space, or {advice}."):
        write_atomically(path, data.getbuffer())


def _wrap(text: str, font: Font) -> list[str]:
    """Break a text into lines no wider than a tile; cut it after `QUESTION_LINES` lines."""
    lines = [""]
    for word in text.split():
        if len(lines) > QUESTION_LINES:
            break
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > TILE:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > QUESTION_LINES:
        lines[QUESTION_LINES - 1] += " ..."
    return [fit(line, font) for line in lines[:QUESTION_LINES]]


def fit(line: str, font: Font, width: int = TILE) -> str:
    """Cut a line that is wider than some pixels; a cut line ends in dots."""
    if len(line) <= width and font.getlength(line) <= width:
        return line
    line = line[:width]  # no letter is narrower than a pixel
    while line and font.getlength(f"{line} ...") > width:
        line = line[:-1]
    return f"{line} ..."
