"""A training with answers from a file needs the file no more once it has begun."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.evaluate.seed_groups import group_runs, require_one_group
from frozen_vqa.pipeline.runs.pretrained import VqaHead
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.train import train
from tests.support.answer_files import written
from tests.support.caches import Made
from tests.support.command import run_command
from tests.support.trainings import SMALL

CPU = torch.device("cpu")
ONE_EPOCH = ("--epochs", 1, "--width", 8, "--heads", 2)


def config_with(path: Path, **changes: Any) -> TrainConfig:
    return replace(SMALL, answers_file=str(path), min_answer_count=9, epochs=1, **changes)


def test_the_file_decides_what_is_trained(scenes: Made, tmp_path: Path) -> None:
    """With the answers that the training split would give, in their order, it is the same head."""
    path = written(tmp_path, "blue\nred\n")
    train(scenes.directory, tmp_path / "file", config=config_with(path), device=CPU)
    train(scenes.directory, tmp_path / "none", config=replace(SMALL, epochs=1), device=CPU)
    one, two = (load_run(tmp_path / name, CPU) for name in ("file", "none"))
    assert one.vocabulary == two.vocabulary == Vocabulary(("blue", "red"))
    weights = one.model.state_dict(), two.model.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])

    written(tmp_path, "green\nred\nblue\n")
    train(scenes.directory, tmp_path / "more", config=config_with(path), device=CPU)
    assert load_run(tmp_path / "more", CPU).vocabulary == Vocabulary(("green", "red", "blue"))


def test_answers_of_no_question_are_refused(scenes: Made, tmp_path: Path) -> None:
    path = written(tmp_path, "green\nyellow\n")
    said = rf"{path}: no question of split 'train' has one of its 2 answers; give"
    with pytest.raises(ConfigError, match=said):
        train(scenes.directory, tmp_path / "run", config=config_with(path), device=CPU)
    assert not (tmp_path / "run").exists()


def test_a_run_stands_on_its_own(scenes: Made, tmp_path: Path) -> None:
    """Its settings name its own file of answers, and nothing of where the first one was."""
    path, run = written(tmp_path, "red\nblue\n"), tmp_path / "run"
    how = ("train-head", "--cache", scenes.directory, *ONE_EPOCH[:4])
    done = run_command(*how, "--run", run, "--answers", path)
    assert done.code == 0, done.err
    path.unlink()
    assert 'answers_file = "answers.json"\n' in (run / "config.toml").read_text()
    assert all(b"answers.txt" not in file.read_bytes() for file in run.rglob("*") if file.is_file())
    assert VqaHead.from_pretrained(run).config.answers == 2

    shutil.move(run, tmp_path / "moved")
    again = ("--run", tmp_path / "again", "--config", tmp_path / "moved/config.toml")
    assert run_command("train-head", "--cache", scenes.directory, *again).code == 0
    one, two = (tmp_path / name / "model.safetensors" for name in ("moved", "again"))
    assert one.read_bytes() == two.read_bytes()

    given = ("--run", tmp_path / "b", "--answers", tmp_path / "moved/answers.json")
    assert run_command(*how, *given).code == 0
    assert load_run(tmp_path / "b", CPU).vocabulary == Vocabulary(("red", "blue"))
    found = run_command(*how, *given, "--min-answer-count", 1)
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert found.err.startswith("error: min_answer_count is given, and the answers are those of ")


@pytest.fixture
def stopped(scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped after its first step."""

    def stop(self: Stop) -> None:
        raise Stopped

    run, path = tmp_path / "run", written(tmp_path, "red\nblue\n")
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "obey", lambda self, number: stop(self))
        with pytest.raises(Stopped):
            train(scenes.directory, run, config=config_with(path), device=CPU)
    return run


@pytest.fixture(scope="module")
def straight(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of that run if it had not been stopped."""
    folder = tmp_path_factory.mktemp("straight")
    config = config_with(written(folder, "red\nblue\n"))
    train(scenes.directory, folder / "run", config=config, device=CPU)
    return (folder / "run" / "model.safetensors").read_bytes()


def resumed(scenes: Made, run: Path, *words: object) -> str:
    found = run_command("train-head", "--cache", scenes.directory, "--run", run, "--resume", *words)
    assert found.code in (0, 1)
    return found.err.splitlines()[-1] if found.code else ""


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.write_text("blue\nred\n"), "answer 1 is 'blue', and was 'red' when the"),
    (lambda path: path.write_text("red\nBlue\n"), "answer 2 is 'Blue', and was 'blue' when the"),
    (lambda path: path.write_text("red\n"), "there are 1 answers in it, and there were 2 when"),
    (lambda path: path.unlink(), "cannot be read (No such file or directory)"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_training_goes_on_with_the_answers_it_began_with(
    change: Callable[[Path], object], said: str, scenes: Made, stopped: Path, straight: bytes
) -> None:
    """Named again, the file has to hold them; the run keeps its own and needs no other."""
    path = stopped.with_name("answers.txt")
    change(path)
    assert resumed(scenes, stopped, "--answers", path).startswith(f"error: {path}: {said}")
    none = stopped.with_name("none.toml")
    own = (stopped / "config.toml").read_text()
    none.write_text(own.replace('answers_file = "answers.json"', 'answers_file = ""'))
    assert resumed(scenes, stopped, "--config", none).startswith(
        f"error: {stopped}: answers_file was 'answers.json' when it began, and '' is asked for"
    )
    assert resumed(scenes, stopped) == ""
    assert load_run(stopped, CPU).vocabulary == Vocabulary(("red", "blue"))
    assert (stopped / "model.safetensors").read_bytes() == straight


def test_the_same_answers_may_come_from_elsewhere(scenes: Made, stopped: Path) -> None:
    moved = stopped.with_name("moved.json")
    moved.write_text(json.dumps(["red", "blue"]))
    stopped.with_name("answers.txt").unlink()
    assert resumed(scenes, stopped, "--answers", moved) == ""


def test_a_damaged_answers_file_of_the_run_is_refused(scenes: Made, stopped: Path) -> None:
    own = stopped / "answers.json"
    for content in ('["rid", "blue"]', "[", "", '["red"]'):
        own.write_text(content)
        assert resumed(scenes, stopped).startswith(f"error: {own}: ")


def test_a_training_without_a_file_takes_none_later(scenes: Made, tmp_path: Path) -> None:
    run, path = tmp_path / "run", written(tmp_path, "blue\nred\n")
    train(scenes.directory, run, config=replace(SMALL, epochs=1), device=CPU)
    said = rf"answers_file was '' when it began, and '{path}' is asked for"
    with pytest.raises(ConfigError, match=said):
        train(
            scenes.directory,
            run,
            config=replace(SMALL, epochs=1, answers_file=str(path)),
            device=CPU,
            resume=True,
        )


def test_a_sweep_with_answers(scenes: Made, tmp_path: Path) -> None:
    """Each head is that of its own config.toml; --resume sees a changed file."""
    written(tmp_path, "red\nblue\ngreen\n")
    file = tmp_path / "sweep.toml"
    file.write_text(
        'answers_file = "answers.txt"\nepochs = 1\nbatch_size = 24\nwidth = 8\nheads = 2\n'
        'fusion = ["concat", "question-only"]\n'
    )
    how = ("train-head", "--cache", scenes.directory, "--run", tmp_path / "run", "--sweep", file)
    done = run_command(*how)
    assert done.code == 0, done.err
    head = tmp_path / "run" / "fusion=concat"
    alone = ("--run", tmp_path / "alone", "--config", head / "config.toml")
    assert run_command("train-head", "--cache", scenes.directory, *alone).code == 0
    one, two = (path / "model.safetensors" for path in (head, tmp_path / "alone"))
    assert one.read_bytes() == two.read_bytes()
    assert run_command(*how, "--resume").code == 0


def test_heads_that_were_given_different_answers_are_no_seeds(scenes: Made, tmp_path: Path) -> None:
    for seed, answers in enumerate(("red\nblue", "blue\nred", "red\nblue")):
        config = config_with(written(tmp_path, answers), seed=seed, fusion="question-only")
        train(scenes.directory, tmp_path / str(seed), config=config, device=CPU)
    runs = [load_run(tmp_path / str(seed), CPU) for seed in range(3)]
    assert group_runs(runs) == [[runs[0], runs[2]], [runs[1]]]
    require_one_group([runs[0], runs[2]])
    with pytest.raises(
        ConfigError, match="differ by more than their seed: they were given different"
    ):
        require_one_group(runs[:2])
