"""The demo encoders: the same bytes everywhere, built once, at nobody's expense."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from frozen_vqa.pipeline.encoders import tiny
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import QUESTION_WORDS, tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from tests.support.repository import ROOT


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "frozen-vqa"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both checkpoints, built in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        return tiny_checkpoint("text").parent


@pytest.mark.slow
def test_two_processes_at_once_build_the_same_files_as_this_one(built: Path, home: Path) -> None:
    """In another folder, and whichever of them comes first."""
    script = "from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint\n"
    script += "print(tiny_checkpoint('vision'))"
    racers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for threads in (1, 2)
    ]
    said = [racer.communicate(timeout=100) for racer in racers]

    assert said == [(f"{home / 'tiny-2' / 'vision'}\n", "")] * 2
    assert [racer.returncode for racer in racers] == [0, 0]
    assert os.listdir(home) == ["tiny-2"]
    assert digests(home / "tiny-2") == digests(built)
    assert {"vision/model.safetensors", "text/model.safetensors", "text/tokenizer.json"} < set(
        digests(built)
    )


def test_what_exists_is_not_touched(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def states() -> list[tuple[Path, int, int]]:
        return [
            (p, p.stat().st_mtime_ns, p.stat().st_ino) for p in (built, *sorted(built.rglob("*")))
        ]

    def build(_: Path) -> None:
        raise AssertionError("built again")

    before = states()
    monkeypatch.setattr(tiny, "_build", build)
    monkeypatch.setenv("XDG_CACHE_HOME", str(built.parents[1]))
    assert tiny_checkpoint("vision") == built / "vision"
    encoder = ImageEncoder("tiny")
    encoder.encode(encoder.pixels(Image.new("RGB", (20, 10), "teal"))[None])
    assert states() == before


def test_building_leaves_the_callers_random_state_alone(home: Path) -> None:
    torch.manual_seed(4)
    expected = torch.rand(5)
    torch.manual_seed(4)
    tiny_checkpoint("vision")
    assert torch.equal(torch.rand(5), expected)


def test_the_callers_random_state_does_not_change_what_is_built(built: Path, home: Path) -> None:
    torch.manual_seed(99)
    tiny_checkpoint("vision")
    assert digests(home / "tiny-2") == digests(built)


def test_an_interrupted_build_leaves_nothing_behind(
    built: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("of a model")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tiny, "_build", build)
        with pytest.raises(KeyboardInterrupt):
            tiny_checkpoint("vision")
    assert os.listdir(home) == []
    tiny_checkpoint("vision")
    assert digests(home / "tiny-2") == digests(built)


def test_whoever_comes_second_takes_the_first_ones_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(folder: Path) -> None:
        for place, by in ((home / "tiny-2", "the other"), (folder, "this one")):
            (place / "text").mkdir(parents=True)
            (place / "text" / "by").write_text(by)

    monkeypatch.setattr(tiny, "_build", build)
    assert (tiny_checkpoint("text") / "by").read_text() == "the other"
    assert os.listdir(home) == ["tiny-2"]


@pytest.mark.parametrize("variable", [None, ""])
def test_without_xdg_it_is_the_cache_of_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tiny, "_build", lambda folder: (folder / "text").mkdir())
    folder = tiny_checkpoint("text")
    assert folder == tmp_path / ".cache" / "frozen-vqa" / "tiny-2" / "text"
    assert folder.is_dir()


def test_a_cache_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    match = r"file/frozen-vqa: cannot be written \(Not a directory\)\. Set XDG_CACHE_HOME to"
    with pytest.raises(ModelError, match=match):
        ImageEncoder("tiny")


def test_a_known_word_is_one_token(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start of a question, capitalised and not, and inside one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(built.parents[1]))
    encoder = TextEncoder("tiny")
    words = QUESTION_WORDS.split()
    assert len(words) > 250
    for word in words:
        for form in (word, word.capitalize(), f" {word}"):
            assert len(encoder.tokens([form])[0]) == 2, form  # BOS and the word
    assert len(encoder.tokens(["What color is the leftmost circle?"])[0]) == 1 + 6 + 1


@pytest.mark.parametrize("question", ["Où est l'été ?", "猫は何匹?", "🙂", "\x00\t\n", "", " "])
def test_any_text_can_be_spelled(
    built: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(built.parents[1]))
    encoder = TextEncoder("tiny")
    ((bos, *tokens),) = encoder.tokens([question])
    assert bos == encoder.config.bos_token_id
    assert encoder.tokenizer.decode(tokens, clean_up_tokenization_spaces=False) == question
    assert all(0 <= token < encoder.config.vocab_size for token in tokens)


def test_the_tiny_encoders_tell_words_and_pictures_apart(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Untrained, but what goes in can be read from what comes out: else no head could learn."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(built.parents[1]))
    text, images = TextEncoder("tiny"), ImageEncoder("tiny")
    questions = ["What color is the circle?", "What color is the square?"]
    states = text.encode(text.tokens(questions))
    assert states.shape[-1] == text.dim == 128
    torch.testing.assert_close(states[0, :5], states[1, :5])  # BOS, What, color, is, the
    distance = (states[0, 5:] - states[1, 5:]).norm(dim=-1) / states[0, 5:].norm(dim=-1)
    assert distance[0] > 0.5  # the word itself
    assert distance[1] > 0.02  # the question mark, which sees the word by attention alone
    assert images.grid == (8, 8)
    assert images.dim == 192


def test_words_know_what_stands_before_them(home: Path) -> None:
    """As in a trained model: or no head could learn which of two objects is left of the other."""
    encoder = TextEncoder("tiny")
    pairs = [
        ("is the red object left of the circle", "is the red object right of the circle"),
        ("is the red object left of the circle", "is the blue object left of the circle"),
    ]
    for pair in pairs:
        one, other = (encoder.encode([encoder.tokens([text])[0]])[0] for text in pair)
        # Both end with the same word; beside that, words are as far apart as chance has them.
        apart = torch.pdist(one).mean()
        assert 0.3 < (one[-1] - other[-1]).norm() / apart < 0.9


@pytest.mark.usefixtures("home")
def test_the_encoders_are_frozen() -> None:
    """No parameter asks for a gradient, and none can flow through what they give."""
    images, text = ImageEncoder("tiny"), TextEncoder("tiny")

    pixels = torch.zeros(1, images.image_size, images.image_size, 3, dtype=torch.uint8).numpy()
    features = [*images.encode(pixels), text.encode(text.tokens(["how many?"]))]

    for weights in (images.weights, text.weights):
        parameters = list(weights.parameters())
        assert parameters
        assert not any(parameter.requires_grad for parameter in parameters)
        assert not weights.training
    assert all(x.grad_fn is None and not x.requires_grad for x in features)
