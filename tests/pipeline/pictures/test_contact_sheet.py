"""The sheet, read by its pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from frozen_vqa.pipeline.pictures.contact_sheet import (
    INK,
    MARGIN,
    PAPER,
    RIGHT,
    TEXT,
    TILE,
    WRONG,
    Tile,
    contact_sheet,
)

BLUE = (0, 0, 255)


def make_tile(question: str, truth: str, *answers: str, colour: tuple = BLUE) -> Tile:
    """A tile of one plain colour, wider than high."""
    predictions = [(f"head {i}", answer) for i, answer in enumerate(answers)]
    return Tile(Image.new("RGB", (30, 20), colour), question, truth, predictions)


def draw(tiles: list[Tile], path: Path, **more: int) -> np.ndarray:
    contact_sheet(tiles, path / "sheet.png", **more)
    with Image.open(path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"
        return np.array(sheet)


def count(pixels: np.ndarray, colour: str) -> int:
    return int((pixels == ImageColor.getrgb(colour)).all(-1).sum())


def text_of(sheet: np.ndarray, column: int = 0, row: int = 0) -> np.ndarray:
    """Cut out what is below a tile's picture."""
    x = MARGIN + column * (TILE + MARGIN)
    y = MARGIN + row * (TILE + MARGIN + TEXT) + TILE
    return sheet[y : y + TEXT + MARGIN, x : x + TILE]


def test_right_answers_are_green_and_wrong_ones_red(tmp_path: Path) -> None:
    sheet = draw(
        [
            make_tile("what?", "red", "red", "red"),
            make_tile("what?", "red", "blue", "green"),
            make_tile("what?", "red", "red", "green"),
        ],
        tmp_path,
    )
    right, wrong, mixed = (text_of(sheet, column) for column in range(3))
    assert count(right, RIGHT) > 20
    assert count(right, WRONG) == 0
    assert count(wrong, WRONG) > 20
    assert count(wrong, RIGHT) == 0
    assert count(mixed, RIGHT) > 10
    assert count(mixed, WRONG) > 10


def test_lines_stand_in_order(tmp_path: Path) -> None:
    """Question, each head in turn, and the right answer where one missed it."""
    text = text_of(draw([make_tile("what?", "red", "blue", "red")], tmp_path))
    rows = {
        colour: np.flatnonzero((text == ImageColor.getrgb(colour)).all(-1).any(1))
        for colour in (INK, WRONG, RIGHT)
    }
    assert rows[WRONG].max() < rows[RIGHT].min()
    assert rows[INK].min() < rows[WRONG].min()
    assert rows[INK].max() > rows[RIGHT].max()
    without = text_of(draw([make_tile("what?", "red", "red", "red")], tmp_path))
    assert np.flatnonzero((without == ImageColor.getrgb(INK)).all(-1).any(1)).max() < 30


def test_pictures_are_laid_out_in_rows(tmp_path: Path) -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    tiles = [make_tile("what?", "red", "red", colour=colour) for colour in colours]

    sheet = draw(tiles, tmp_path, columns=2)

    assert sheet.shape == (
        3 * (TILE + MARGIN + TEXT) + MARGIN,
        2 * (TILE + MARGIN) + MARGIN,
        3,
    )
    for i, colour in enumerate(colours):
        x = MARGIN + i % 2 * (TILE + MARGIN)
        y = MARGIN + i // 2 * (TILE + MARGIN + TEXT)
        picture = sheet[y : y + TILE, x : x + TILE]
        assert (picture == colour).all()  # the whole picture, stretched over the whole tile
    assert count(text_of(sheet, 1, 2), PAPER) == TILE * (TEXT + MARGIN)  # no sixth tile


@pytest.mark.parametrize(
    ("question", "truth", "answer"),
    [
        ("how many of the small green circles are to the left of the large square?", "2", "2"),
        ("word " * 60, "2", "2"),
        ("W" * 100, "2", "2"),
        ("what?", "2", "a very long answer that nobody would give to such a short question"),
        ("what?", "W" * 80, "W" * 79),
    ],
    ids=["two lines", "many lines", "a long word", "a long answer", "a long truth"],
)
def test_text_stays_within_its_tile(question: str, truth: str, answer: str, tmp_path: Path) -> None:
    sheet = draw([make_tile(question, truth, answer, answer)] * 6, tmp_path, columns=3)
    paper = ImageColor.getrgb(PAPER)
    end = MARGIN + TILE + TEXT
    assert (sheet[end : end + MARGIN] == paper).all()
    for column in range(3):
        end = MARGIN + column * (TILE + MARGIN) + TILE
        assert (sheet[:, end + 2 : end + MARGIN - 2] == paper).all()
        # The text uses the width that it has.
        assert (text_of(sheet, column)[:, TILE - 60 :] != paper).any()


def test_a_question_that_is_cut_ends_in_dots(tmp_path: Path) -> None:
    """Otherwise two questions that differ late would look complete and the same."""
    ten, sixty = (draw([make_tile("word " * n, "2", "2")], tmp_path) for n in (10, 60))
    assert not np.array_equal(ten, sixty)
    seventy = draw([make_tile("word " * 70, "2", "2")], tmp_path)
    assert np.array_equal(sixty, seventy)


def test_a_short_question_is_drawn_as_it_is(tmp_path: Path) -> None:
    assert not np.array_equal(
        draw([make_tile("what?", "2", "2")], tmp_path),
        draw([make_tile("whax?", "2", "2")], tmp_path),
    )
