"""The page answers as `ask` does, and draws the weights of that answer."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.ask.look import WordMaps
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError, RunError
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.serve.answerer import KEPT, Answered, Answerer, draw
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.tiny_commands import at_home, extract, train

QUESTIONS = ["is there a red circle?", "what color is it?", "how many objects are there?"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with at_home(tmp_path_factory):
        place = tmp_path_factory.mktemp("answerer")
        assert extract(place, "--split", "train", "--split", "val").code == 0
        assert train(place, "--no-report").code == 0
        source = ShapesSource(images=8)
        for i, image in enumerate(dict.fromkeys(e.image_id for e in source.examples("train"))):
            source.picture(image).save(place / f"{i}.png")
        yield place


@pytest.fixture(scope="module")
def answerer(place: Path) -> Answerer:
    return Answerer(Asker(load_run(place / "run", "cpu"), torch.device("cpu")))


def test_its_answers_are_those_of_ask(answerer: Answerer, place: Path) -> None:
    """From many threads at a time, the same questions in any order."""
    expected = {}
    for i in range(3):
        picture = load_rgb(place / f"{i}.png")
        for question in QUESTIONS:
            logits = answerer.asker.logits(picture, [question])[0]
            expected[i, question] = [value for _, value in answerer.asker.rank(logits, 5)]
    found: list[tuple[int, str, Answered]] = []

    def ask(seed: int) -> None:
        for number in np.random.default_rng(seed).permutation(9):
            i, question = int(number) // 3, QUESTIONS[number % 3]
            found.append((i, question, answerer.answer(place / f"{i}.png", question)))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 36
    for i, question, answered in found:
        values = [value for _, value in answered.ranked]
        np.testing.assert_allclose(values, expected[i, question], rtol=0, atol=1e-4)
        assert answered.seen is not None
        np.testing.assert_allclose(answered.seen.maps.sum((-2, -1)), 1, atol=1e-4)
    assert len({id(answered) for *_, answered in found}) == 9  # each was computed once


def test_few_answers_are_kept(answerer: Answerer, place: Path) -> None:
    first = answerer.answer(place / "0.png", "what is 0?")
    for i in range(1, KEPT + 1):
        answerer.answer(place / "0.png", f"what is {i}?")
    assert answerer.answer(place / "0.png", "what is 0?") is not first


def test_what_cannot_be_answered(answerer: Answerer, place: Path) -> None:
    with pytest.raises(RunError, match="the question is empty"):
        answerer.answer(place / "0.png", " ")
    with pytest.raises(RunError, match="tokens, and tiny reads at most"):
        answerer.answer(place / "0.png", "why " * 1_000)
    (place / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"^not an image but text"):
        answerer.answer(place / "text.png", "what is it?")
    with pytest.raises(ImageError, match="the file is missing"):
        answerer.answer(place / "none.png", "what is it?")


def test_the_chosen_weights_are_drawn() -> None:
    """Patch (1, 0) for the first word in head 2; the start is no word, and scales are shared."""
    maps = np.full((3, 2, 2, 2), 0.1)
    maps[0] = 9.0  # the start
    maps[1, 1] = [[0.1, 0.1], [0.7, 0.1]]
    maps[2, 1] = [[0.1, 0.1], [0.1, 0.2]]
    seen = WordMaps(("⟨start⟩", "red", "cat"), maps, maps[1:].mean(0))
    answered = Answered([("yes", 0.5)], Image.new("RGB", (8, 8), "white"), seen)
    found = draw(answered, 1, 2)
    assert (found.row, found.column, found.grid) == (2, 1, (2, 2))
    assert found.share == pytest.approx(0.7)
    pixels = np.asarray(found.picture).astype(int)
    side = len(pixels)
    corners = {"left": pixels[side - 1, 0], "right": pixels[side - 1, side - 1]}
    assert corners["left"][2] < corners["right"][2]  # more of the heat's colour, which has no blue
    weaker = np.asarray(draw(answered, 2, 2).picture).astype(int)
    assert weaker[side - 1, side - 1][2] > corners["left"][2]
    assert draw(answered, 1, 0).share == pytest.approx(0.4)  # the mean of both heads
    assert draw(answered, 0, 2).share == pytest.approx(0.4)  # of both words
