"""Several questions, a folder of pictures, a file of questions: each as if it were asked alone."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.ask.look import look
from frozen_vqa.pipeline.commands.ask import COLUMNS, _to_csv
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.pictures.attention_strip import TILE
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.command import Finished, error_of, run_command
from tests.support.tiny_commands import at_home, extract, train

QUESTIONS = ("is there a red object?", "how many objects are there?", "what is it?")


@dataclass(frozen=True)
class Place:
    run: Path
    pictures: Path  # a folder of two pictures and a text

    @property
    def images(self) -> list[Path]:
        return sorted(self.pictures.glob("*.png"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with at_home(tmp_path_factory):
        folder = tmp_path_factory.mktemp("many")
        assert extract(folder, "--split", "train", "--split", "val").code == 0
        assert train(folder, "--no-report").code == 0
        source, pictures = ShapesSource(images=8), folder / "pictures"
        pictures.mkdir()
        for i, example in enumerate(source.examples("train")[::20][:2]):
            source.picture(example.image_id).save(pictures / f"{i}.png")
        (pictures / "notes.txt").write_text("not a picture")
        yield Place(folder / "run", pictures)


def ask(place: Place, *words: object) -> Finished:
    return run_command("ask", place.run, *words)


def about(*questions: str) -> tuple[str, ...]:
    return tuple(word for question in questions for word in ("--question", question))


@pytest.fixture(scope="module")
def alone(place: Place) -> dict[tuple[str, str], Any]:
    """The answers to each question about each picture, each asked by itself."""
    found = {}
    for image in place.images:
        for question in QUESTIONS:
            said = ask(place, "--image", image, *about(question), "--json")
            found[str(image), question] = said.json()["answers"]
    return found


def require_same(results: Any, alone: dict[tuple[str, str], Any], top: int = 5) -> None:
    for result in results:
        expected = alone[result["image"], result["question"]][:top]
        assert [entry["answer"] for entry in result["answers"]] == [e["answer"] for e in expected]
        for mine, other in zip(result["answers"], expected, strict=True):
            assert mine["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_a_folder_and_several_questions(
    place: Place, alone: dict[tuple[str, str], Any], tmp_path: Path
) -> None:
    table = tmp_path / "answers.csv"
    words = ("--image", place.pictures, *about(*QUESTIONS), "--csv", table)
    found = ask(place, *words, "--json")
    assert found.code == 0, found.err
    results = found.json()["results"]
    assert [(r["image"], r["question"]) for r in results] == list(alone)
    require_same(results, alone)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in rows] == [
        (r["image"], r["question"], str(rank), e["answer"], str(e["probability"]))
        for r in results
        for rank, e in enumerate(r["answers"], start=1)
    ]
    assert table.read_text(encoding="utf-8").startswith(",".join(COLUMNS) + "\n")
    assert ask(place, *words, "--top", 1).code == 0  # its own table is replaced
    assert table.read_text(encoding="utf-8").count("\n") == 1 + len(results)


def test_a_file_of_questions(
    place: Place, alone: dict[tuple[str, str], Any], tmp_path: Path
) -> None:
    """Pictures in any order, one missing, one damaged; questions too long, a line without one."""
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for image in place.images:
        (tmp_path / image.name).write_bytes(image.read_bytes())
    pairs = [(image.name, question) for question in QUESTIONS for image in place.images]
    lines = [{"image": image, "question": question} for image, question in pairs]
    lines += [{"image": "bad.png", "question": "what?"}, {"image": "none.png", "question": "what?"}]
    lines += [{"image": image, "question": "what? " * 600} for image in ("0.png", "long.png")]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"image": "0.png"}])
    (tmp_path / "asked.jsonl").write_text(text)
    found = ask(place, "--questions", tmp_path / "asked.jsonl", "--json")
    assert found.code == 3, found.err
    said = found.json()
    assert sorted((r["image"], r["question"]) for r in said["results"]) == sorted(pairs)
    assert {r["question_id"] for r in said["results"]} == set(range(1, len(pairs) + 1))
    require_same(said["results"], {(Path(i).name, q): a for (i, q), a in alone.items()})
    assert len(said["left_out"]) == 5
    assert sum(reason.startswith("question ") for reason in said["left_out"]) == 2
    assert all(f"warning: left out: {reason}" in found.err for reason in said["left_out"])


def test_what_is_shown_of_several(place: Place) -> None:
    words = ("--image", place.images[0], *about(*QUESTIONS[:2]), "--top", 2)
    loud, quiet = ask(place, *words), ask(place, *words, "-q")
    assert (loud.code, loud.out, quiet.out) == (0, "", "")
    lines = quiet.err.splitlines()
    assert [line for i, line in enumerate(lines) if i % 3 == 0] == [
        f"{place.images[0]}: {question}" for question in QUESTIONS[:2]
    ]
    assert len(lines) == 6
    assert quiet.err in loud.err
    assert "need not add up to 100" in loud.err


@pytest.mark.parametrize(("bias", "low"), [(-3.0, True), (3.0, False)])
def test_a_low_probability_is_called_low(
    place: Place, bias: float, low: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Asker, "logits", lambda self, picture, questions: torch.full((len(questions), 3), bias)
    )
    one = ask(place, "--image", place.images[0], *about("what?"))
    several = ask(place, "--image", place.pictures, *about("what?"))
    assert ("4.7 % is low: " in one.err) == low
    assert ("2 of 2 best answers are below 50 %, which is low: " in several.err) == low


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--image", "a.png"), "give --image and --question, or --questions"),
        (("--question", "what?"), "give --image and --question, or --questions"),
        (("--questions", "q.jsonl", "--image", "a.png"), "--questions names pictures and "),
    ],
)
def test_wrong_usage(words: tuple[str, ...], said: str, place: Place) -> None:
    found = ask(place, *words)
    assert found.code == 2
    assert said in found.err


def test_a_strip_has_a_map_of_each_word(place: Place, tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    words = ("--image", place.images[0], *about(*QUESTIONS[:2]))
    found = ask(place, *words, "--save-attention", strip)
    assert found.code == 0, found.err
    assert f"attention: {strip}" in found.err
    assert "no proof" in found.err
    with Image.open(strip) as sheet:
        assert sheet.size[0] > 6 * TILE  # six words and the picture
    said = error_of(ask(place, "--image", place.pictures, *words[2:], "--save-attention", strip))
    assert said.startswith(f"{place.pictures}: --save-attention draws one picture; name a picture")


def test_the_maps_are_those_of_the_forward_pass(place: Place) -> None:
    """They add up to 1, and a question's map does not depend on the others in the batch."""
    asker = Asker(load_run(place.run, torch.device("cpu")), torch.device("cpu"))
    picture = load_rgb(place.images[0])
    logits, seen = look(asker, picture, QUESTIONS)
    torch.testing.assert_close(logits, asker.logits(picture, QUESTIONS))
    for question, one in zip(QUESTIONS, seen, strict=True):
        _, (alone,) = look(asker, picture, [question])
        assert one.words == alone.words
        assert "".join(one.words[1:]) == question.replace(" ", "")
        np.testing.assert_allclose(one.maps, alone.maps, atol=1e-6)
        np.testing.assert_allclose(one.maps.sum((2, 3)), 1, atol=1e-5)
        assert one.maps.shape[2:] == asker.images.grid
    assert np.abs(seen[0].maps[1] - seen[1].maps[1]).max() > 1e-4


def test_a_folder_without_pictures_and_a_table_of_somebody_else(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "notes.csv").write_text("my,notes\n")
    words = ("--image", place.images[0], *about("what?"), "--csv", tmp_path / "notes.csv")
    assert "that frozen-vqa did not write" in error_of(ask(place, *words))
    assert (tmp_path / "notes.csv").read_text() == "my,notes\n"
    said = error_of(ask(place, "--image", tmp_path, *about("what?")))
    assert said.startswith(f"{tmp_path}: there is no picture in this folder")


def test_no_cell_of_a_table_is_a_formula() -> None:
    texts = ["=cmd|' /C calc'!A0", "+x", "-x", "@x", "\tx", "-2", "+3.5", "cat"]
    answers = [{"answer": text, "probability": 0.5} for text in texts]
    rows = csv.reader(_to_csv([{"image": "=1", "question": "=2", "answers": answers}]).splitlines())
    assert [row[3] for row in [*rows][1:]] == [*(f"'{text}" for text in texts[:5]), *texts[5:]]
