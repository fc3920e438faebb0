"""One picture, one question: the same answer as from the cache, or one line that says why not."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.cache.format.quantise import quantise
from frozen_vqa.pipeline.answers.vocabulary import load_vocabulary
from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.runs.run import Run, load_run
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.command import Finished, run_command
from tests.support.heads import seal

SCENES = 20
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Asked:
    """A question of the validation split, its picture as a file, and where it is in the cache."""

    picture: Path
    question: str
    row: int


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache of scenes and a head trained on it."""
    place = tmp_path_factory.mktemp("ask")
    found = run_command(
        *("extract-features", "--dataset", f"shapes:{SCENES}", "--cache", place / "cache"),
        *("--vision-model", "tiny", "--text-model", "tiny", "--split", "train", "--split", "val"),
    )
    assert found.code == 0, found.err
    found = run_command(
        *("train-head", "--cache", place / "cache", "--run", place / "run", "--epochs", 2),
        *("--min-answer-count", 1, "--width", 32, "--lr", 0.005),
    )
    assert found.code == 0, found.err
    return place


@pytest.fixture(scope="module")
def asked(place: Path) -> list[Asked]:
    """Every seventh question of the validation split."""
    source, cache = ShapesSource(images=SCENES), FeatureCache(place / "cache")
    examples = source.examples("val")
    assert cache.split("val").question_ids == [example.question_id for example in examples]
    found = []
    for row in range(0, len(examples), 7):
        picture = place / f"{examples[row].image_id}.png"
        source.picture(examples[row].image_id).save(picture)
        found.append(Asked(picture, examples[row].question, row))
    return found


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return load_run(place / "run", CPU)


def ask(run: Path, picture: Path, question: str, *words: object) -> Finished:
    return run_command("ask", "--run", run, "--image", picture, "--question", question, *words)


def from_the_cache(run: Run, cache: FeatureCache, table: SplitTable, row: int) -> np.ndarray:
    """Return the probability of every answer, without a line of `pipeline/ask/`."""
    patches = np.empty((1, cache.spec.patches, cache.spec.vision_dim), cache.spec.dtype)
    cache.read_images(table.image_rows[row : row + 1], patches)
    states = torch.from_numpy(cache.questions.states(table.question_rows[row]).copy())
    mask = torch.ones(1, 1, len(states), dtype=torch.bool)
    with torch.inference_mode():
        logits = run.model(torch.from_numpy(patches), states[None, None], mask)
    return logits[0].sigmoid().numpy()


def test_probabilities_are_those_of_the_cached_features(
    place: Path, asked: list[Asked], run: Run
) -> None:
    cache = FeatureCache(place / "cache")
    table = cache.split("val")
    firsts = []
    for item in asked:
        found = ask(place / "run", item.picture, item.question, "--top", 99, "--json")
        assert found.code == 0
        said = found.json()
        assert said["question"] == item.question
        assert said["image"] == str(item.picture)
        expected = from_the_cache(run, cache, table, item.row)
        assert {entry["answer"] for entry in said["answers"]} == set(run.vocabulary.answers)
        for entry in said["answers"]:
            probability = expected[run.vocabulary.answers.index(entry["answer"])]
            assert entry["probability"] == pytest.approx(probability, abs=1e-3)
        given = [entry["probability"] for entry in said["answers"]]
        assert given == sorted(given, reverse=True)
        firsts.append(said["answers"][0])
    # The comparison bites only where the head looks at what it is given.
    assert len({round(first["probability"], 3) for first in firsts}) > 2


def test_a_head_of_an_int8_cache_gets_what_such_a_cache_stores(
    asked: list[Asked], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[torch.Tensor] = []

    def forward(patches: torch.Tensor, states: torch.Tensor, mask: torch.Tensor, scales: Any):  # type: ignore[no-untyped-def]
        given.extend([patches, states, scales])
        return torch.zeros(1, len(run.vocabulary))

    monkeypatch.setattr(run.model, "forward", forward)
    item = asked[0]
    for dtype in ("int8", "float32"):
        asker = Asker(replace(run, dtype=dtype), CPU)
        asker.logits(load_rgb(item.picture), [item.question])
    integers, states, scales, floats, exact_states, none = given
    expected = quantise(floats.numpy())
    np.testing.assert_array_equal(integers, expected[0])
    np.testing.assert_array_equal(scales, expected[1])
    assert (floats.dtype, none) == (torch.float32, None)
    assert (states.dtype, exact_states.dtype) == (torch.float16, torch.float32)


def answer_lines(found: Finished) -> list[str]:
    return re.findall(r"^ *[\d.]+ %  .*$", found.err, re.MULTILINE)


@pytest.mark.parametrize("top", [1, 3])
def test_top_shows_the_most_likely_first(place: Path, asked: list[Asked], top: int) -> None:
    item = asked[0]
    everything = ask(place / "run", item.picture, item.question, "--top", 99, "--json").json()
    found = ask(place / "run", item.picture, item.question, "--top", top, "--json")
    assert found.json()["answers"] == everything["answers"][:top]
    lines = answer_lines(found)
    assert len(lines) == top
    for line, entry in zip(lines, found.json()["answers"], strict=True):
        assert line == f"{100 * entry['probability']:5.1f} %  {entry['answer']}"


def test_five_answers_are_shown_by_default_and_stdout_is_left_alone(
    place: Path, asked: list[Asked]
) -> None:
    found = ask(place / "run", asked[0].picture, asked[0].question)
    assert (found.code, found.out, len(answer_lines(found))) == (0, "", 5)


def one_line(found: Finished) -> str:
    assert found.code == 1
    assert found.out == ""
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    return found.err.rstrip("\n").removeprefix("error: ")


def test_a_picture_that_cannot_be_read(place: Path, tmp_path: Path, asked: list[Asked]) -> None:
    data = asked[0].picture.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, reason in (
        ("cut.png", r"truncated or damaged \(.*\)"),
        ("text.jpg", r"not an image but text; the formats are JPEG, .*"),
        ("none.png", "the file is missing"),
    ):
        said = one_line(ask(place / "run", tmp_path / name, "What is it?", "--json"))
        assert re.fullmatch(rf"{re.escape(str(tmp_path / name))}: {reason}", said)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question(place: Path, asked: list[Asked], question: str) -> None:
    said = one_line(ask(place / "run", asked[0].picture, question))
    assert said == "the question is empty; ask something about the picture"


def test_a_folder_that_is_no_run(tmp_path: Path, asked: list[Asked]) -> None:
    said = one_line(ask(tmp_path, asked[0].picture, "What is it?"))
    assert said.startswith(f"{tmp_path}: there is no run here (config.json is missing).")


def test_an_encoder_that_has_changed_since_is_refused(
    place: Path, tmp_path: Path, asked: list[Asked]
) -> None:
    """A head reads features of one checkpoint; another's would be taken for them without a sign."""
    run = tmp_path / "run"
    run.mkdir()
    for file in (place / "run").iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    config = json.loads((run / "config.json").read_text())
    now = config["encoders"]["text"]["revision"]
    config["encoders"]["text"]["revision"] = "xxh3:another"
    (run / "config.json").write_text(json.dumps(config))
    seal(run)
    said = one_line(ask(run, asked[0].picture, "What is it?"))
    assert said == (
        f"{run}: trained on features of tiny at xxh3:another, but that model is now at {now}; "
        f"train the head again"
    )


def test_encoders_are_set_as_in_the_extraction(tmp_path: Path, asked: list[Asked]) -> None:
    """Another layer, size and fit than the defaults, and the answer is still the cache's."""
    found = run_command(
        *("extract-features", "--dataset", "shapes:6", "--cache", tmp_path / "cache"),
        *("--vision-model", "tiny", "--text-model", "tiny", "--split", "train", "--split", "val"),
        *("--text-layer", 1, "--image-size", 56, "--fit", "crop", "--dtype", "float32"),
    )
    assert found.code == 0, found.err
    found = run_command(
        *("train-head", "--cache", tmp_path / "cache", "--run", tmp_path / "run"),
        *("--epochs", 1, "--min-answer-count", 1, "--width", 16, "--lr", 0.01),
    )
    assert found.code == 0, found.err
    source, run = ShapesSource(images=6), load_run(tmp_path / "run", CPU)
    example = source.examples("val")[2]
    source.picture(example.image_id).save(tmp_path / "a.png")
    said = ask(tmp_path / "run", tmp_path / "a.png", example.question, "--top", 99, "--json").json()
    cache = FeatureCache(tmp_path / "cache")
    expected = from_the_cache(run, cache, cache.split("val"), 2)
    answers = load_vocabulary(tmp_path / "run" / "answers.json").answers
    assert {entry["answer"] for entry in said["answers"]} == set(answers)
    for entry in said["answers"]:
        probability = expected[answers.index(entry["answer"])]
        assert entry["probability"] == pytest.approx(probability, abs=1e-3)


def test_a_transparent_rotated_picture_is_seen_as_people_see_it(
    place: Path, tmp_path: Path, asked: list[Asked]
) -> None:
    item = asked[1]
    upright = Image.open(item.picture).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 3
    upright.rotate(180).convert("RGBA").save(tmp_path / "turned.png", exif=exif)
    plain, turned = (
        ask(place / "run", picture, item.question, "--json").json()["answers"]
        for picture in (item.picture, tmp_path / "turned.png")
    )
    assert turned == plain


def test_a_question_longer_than_the_model_reads_is_refused(
    place: Path, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "load", None)  # no weights are needed to know it
    said = one_line(ask(place / "run", asked[0].picture, "what is this " * 700, "--json"))
    assert re.fullmatch(
        r"the question has [12],\d\d\d tokens, and tiny reads at most 512; .*", said
    )
