"""How far one can come with a vocabulary: said once at the start, and kept in run and card."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.run import finish_run, load_run, read_outcome
from frozen_vqa.pipeline.train.loop import TrainResult
from frozen_vqa.pipeline.train.sweep import sweep
from frozen_vqa.pipeline.train.train import train
from tests.support.caches import Made, Row, make_cache
from tests.support.command import run_command
from tests.support.trainings import SMALL

CPU = torch.device("cpu")


def question(i: int, answer: str, count: int = 10, other: str = "rare") -> Row:
    return Row(i % 3, i % 2, (answer,) * count + (other,) * (10 - count), "what", "other")


# "red" and "Blue" are the classes; raw text counts where all agree.
TRAIN = [question(i, "red") for i in range(3)] + [question(3, "Blue"), question(4, "Blue")]
TRAIN += [question(5, "rare"), question(6, "red", 2, "rarer"), question(7, "blue")]
VAL = [question(0, "Blue", 3), question(1, "red"), question(2, "none")]
SCORES = {"train": [1, 1, 1, 1, 1, 0, 0.6, 0], "val": [0.9, 1, 0]}
CONFIG = replace(SMALL, min_answer_count=2, epochs=1, fusion="question-only")
LINE = (
    "2 answers are classes; a head that always picks the best of them scores 70.00 % on train "
    "and 63.33 % on val"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("ceiling"), {"train": TRAIN, "val": VAL})


def trained(made: Made, run: Path, config: TrainConfig = CONFIG) -> TrainResult:
    return train(made.directory, run, config=config, device=CPU)


def test_it_is_the_best_class_of_each_question(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    result = trained(made, run)
    said = capsys.readouterr().err.splitlines()
    assert said.count(LINE) == 1
    assert said.index(LINE) < min(i for i, line in enumerate(said) if line.startswith("epoch 1"))
    means = [round(100 * sum(SCORES[name]) / len(SCORES[name]), 2) for name in ("train", "val")]
    assert [result.answers, result.train_ceiling, result.val_ceiling] == [2, *means]
    found = json.loads((run / "run.json").read_text())
    assert [found[n] for n in ("answers", "train_ceiling", "val_ceiling")] == [2, *means]
    card = (run / "README.md").read_text()
    accuracy = f"{result.best_accuracy:.2f}"
    assert f"| unknown | val (in training) | {accuracy} |  | 63.33 |  | 2021 |\n" in card
    assert "score of the best answer for each question; on 'train' that is 70.00 %." in card
    for split, ceiling in zip(("train", "val"), means, strict=True):
        scored = evaluate(load_run(run, CPU), FeatureCache(made.directory), split)
        assert scored.ceiling == ceiling
        assert scored.accuracy is not None
        assert scored.accuracy.overall <= ceiling
        (row,) = [
            line
            for line in (run / "README.md").read_text().splitlines()
            if f"{split} (" in line and "questions)" in line
        ]
        assert row.split(" | ")[4] == f"{ceiling:.2f}"
    assert result.best_accuracy <= means[1]


def test_it_is_that_of_the_rules_of_the_run(tmp_path: Path) -> None:
    """With fewer than ten answers a question is right or wrong."""
    rows = [replace(row, answers=row.answers[:3]) for row in TRAIN]
    made = make_cache(tmp_path / "cache", {"train": rows, "val": rows[4:]})
    result = trained(made, tmp_path / "run")
    assert (result.train_ceiling, result.val_ceiling) == (87.5, 75.0)


def test_a_sweep_says_it_once(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = {str(seed): replace(CONFIG, seed=seed) for seed in range(3)}
    result = sweep(made.directory, tmp_path, heads=heads, device=CPU)
    assert capsys.readouterr().err.count("answers are classes") == 1
    assert {head.val_ceiling for head in result.heads.values()} == {63.33}


def test_the_command_returns_it(made: Made, tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("red\n")
    how = ("train-head", "--cache", made.directory, "--run", tmp_path / "run", "--epochs", 1)
    found = run_command(*how, "--answers", tmp_path / "answers", "--json")
    assert found.code == 0, found.err
    one = found.json()
    assert (one["answers"], one["train_ceiling"], one["val_ceiling"]) == (1, 45.0, 33.33)


def test_a_run_of_before_can_still_be_read(made: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = trained(made, run)
    old = read_outcome(run)
    assert old is not None
    kept = {k: v for k, v in old.items() if k not in ("answers", "train_ceiling", "val_ceiling")}
    finish_run(run, FeatureCache(made.directory), kept)
    again = train(made.directory, run, config=CONFIG, device=CPU, resume=True)
    assert again == replace(result, answers=None, train_ceiling=None, val_ceiling=None)
    evaluate(load_run(run, CPU), FeatureCache(made.directory), "val")
    card = (run / "README.md").read_text()
    assert f"| unknown | val (in training) | {result.best_accuracy:.2f} |  |  |  | 2021 |\n" in card
    assert "score of the best answer for each question.\n" in card
