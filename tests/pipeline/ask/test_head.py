"""A head in Python answers as the command does, and says where each word looked."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.pipeline.ask.head import VqaHead
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError, PipelineError
from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.caches import GRID
from tests.support.command import run_command
from tests.support.tiny_commands import at_home, extract

QUESTION = "is there a rectangle left of the red circle?"
WORDS = ("⟨start⟩", "is", "there", "a", "rectangle", "left", "of", "the", "red", "circle", "?")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of scenes, a head with attention and one without, and a picture."""
    with at_home(tmp_path_factory):
        place = tmp_path_factory.mktemp("head")
        assert extract(place, "--split", "train", "--split", "val").code == 0
        for fusion in ("co-attention", "concat"):
            words = ("--epochs", 1, "--width", 16, "--min-answer-count", 1, "--fusion", fusion)
            train = ("train-head", place / "cache", "--run", place / fusion, "--no-report")
            assert run_command(*train, *words).code == 0
        source = ShapesSource(images=8)
        source.picture(source.examples("val")[0].image_id).save(place / "scene.png")
        yield place


@pytest.fixture(scope="module")
def head(place: Path) -> VqaHead:
    return VqaHead.from_pretrained(str(place / "co-attention"))


def test_every_kind_of_picture_gets_the_answers_of_the_command(place: Path, head: VqaHead) -> None:
    """The encoders are loaded with the first question, and once."""
    said = run_command(
        *("ask", place / "co-attention", "--image", place / "scene.png"),
        *("--question", QUESTION, "--top", 3, "--json"),
    ).json()["answers"]
    expected = [(one["answer"], one["probability"]) for one in said]
    picture = load_rgb(place / "scene.png")
    data = io.BytesIO()
    picture.save(data, "png")
    assert head._asker is None
    askers = set()
    for kind in (
        place / "scene.png",
        str(place / "scene.png"),
        data.getvalue(),
        picture,
        np.asarray(picture),
    ):
        asked = head.ask(kind, QUESTION, top=3)
        assert [(a, round(p, 6)) for a, p in asked.ranked] == expected
        assert (asked.best, asked.probability) == asked.ranked[0]
        assert (asked.words, asked.attention) == ((), None)
        askers.add(head._asker)
    assert len(askers) == 1


def test_attention_is_a_map_for_each_word_and_head(place: Path, head: VqaHead) -> None:
    """Of the weights of the forward pass: the answers are the same, and each map adds up to 1."""
    plain = head.ask(place / "scene.png", QUESTION)
    asked = head.ask(place / "scene.png", QUESTION, attention=True)
    assert asked.ranked == plain.ranked
    assert asked.words == WORDS
    assert asked.attention is not None
    assert asked.attention.shape == (len(WORDS), 4, 8, 8)
    np.testing.assert_allclose(asked.attention.sum((2, 3)), 1, atol=1e-5)
    assert head.layers[-1].text_to_image.watch is None
    other = VqaHead.from_pretrained(place / "concat")
    assert other.ask(place / "scene.png", QUESTION, attention=True).attention is None


def test_what_cannot_be_asked_is_one_sentence(place: Path, head: VqaHead) -> None:
    shapes = ModelConfig(vision_dim=3, text_dim=3, grid=GRID, answers=2, width=8, heads=2)
    for question, image, said in (
        (" ", place / "scene.png", "the question is empty"),
        ("what?" * 400, place / "scene.png", "tokens, and tiny reads at most"),
        ("what?", place / "none.png", "none.png"),
        ("what?", b"", "."),
        ("what?", np.zeros((2, 2, 7)), "uint8 of"),
        ("what?", np.zeros((0, 3, 3), np.uint8), "uint8 of"),
    ):
        with pytest.raises(PipelineError, match=said):
            head.ask(image, question)
    with pytest.raises(ImageError, match="uint8"):
        head.ask(np.zeros((4, 4, 3)), "what?")
    with pytest.raises(PipelineError, match="this head is not that of a run"):
        VqaHead(shapes).ask(place / "scene.png", "what?")
