"""A strip has the picture and one heat map a word, warmest where the weight is largest."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.pictures.attention_strip import (
    MARGIN,
    MOST_TILES,
    TILE,
    TITLE,
    Strip,
    attention_strip,
    require_own_strip,
)
from tests.support.hostile import EVERY

STEP = TILE + MARGIN


def one_hot(row: int, column: int, side: int) -> np.ndarray:
    made = np.zeros((side, side))
    made[row, column] = 1.0
    return made


def tile(sheet: Image.Image, number: int) -> np.ndarray:
    """Return the pixels of a tile of the first strip; 0 is the picture."""
    x, y = MARGIN + number * STEP, MARGIN + TITLE
    return np.asarray(sheet.crop((x, y, x + TILE, y + TILE)), dtype=float)


@pytest.mark.parametrize(
    ("cell", "side"), [((0, 0), 4), ((0, 3), 4), ((2, 1), 4), ((3, 3), 4), ((1, 0), 2)]
)
def test_the_warmest_place_is_the_attended_one(
    cell: tuple[int, int], side: int, tmp_path: Path
) -> None:
    """Also of a pooled map, which has fewer and larger cells."""
    picture = Image.new("RGB", (56, 56), "white")
    maps = np.stack([one_hot(*cell, side), np.full((side, side), 1 / side**2)])
    attention_strip(picture, [Strip("what?", ["what", "?"], maps)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        sheet = file.copy()
    warmth = tile(sheet, 1)[..., 0] - tile(sheet, 1)[..., 2]
    row, column = np.unravel_index(warmth.argmax(), warmth.shape)
    assert (row * side // TILE, column * side // TILE) == cell
    assert np.ptp(tile(sheet, 2), axis=(0, 1)).max() <= 1
    # On one scale: a small part of the weight everywhere is faint.
    faint = (tile(sheet, 2)[..., 0] - tile(sheet, 2)[..., 2]).max()
    assert faint < 1.6 / side**2 * warmth.max()
    assert (tile(sheet, 0) == 255).all()


def test_each_question_has_a_row_and_long_ones_are_cut(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8), "blue")
    words = [f"w{i}" for i in range(MOST_TILES + 9)]
    strips = [
        Strip(text, words[: 2 + 100 * i], np.full((len(words), 2, 2), 0.25))
        for i, text in enumerate([*EVERY.values()][:3])
    ]
    attention_strip(picture, strips, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as sheet:
        width, height = sheet.size
    assert width == MARGIN + (MOST_TILES + 1) * STEP
    assert height > 3 * TILE


def test_a_file_of_somebody_else_is_refused_and_ours_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    require_own_strip(path)
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(PipelineError, match="did not write"):
        require_own_strip(path)
    attention_strip(Image.new("RGB", (8, 8)), [Strip("q", ["q"], np.ones((1, 1, 1)))], path)
    require_own_strip(path)
