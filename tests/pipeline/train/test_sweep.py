"""Heads of a sweep: each ends as if it had been trained alone, from one reading of the cache."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import frozen_vqa.pipeline.train.loop
from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import BatchPlan
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.config import TrainConfig, load_config
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.state import has_state
from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.loop import TrainingLoop
from frozen_vqa.pipeline.train.sweep import Head, SweepResult, sweep
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made
from tests.support.command import run_command
from tests.support.resuming import CPU, Killed, without_times

COMMON = TrainConfig(heads=2, lr=0.01, batch_size=24, accumulate=2, epochs=2, min_answer_count=1)
slow = pytest.mark.slow
HEADS = {
    "attention": replace(COMMON, width=16, dropout=0.3, precision="bfloat16"),
    "concat": replace(COMMON, fusion="concat", width=8, dropout=0.5, lr=0.003, seed=1, ema=0.9),
    "text": replace(
        COMMON,
        fusion="text-to-image",
        width=8,
        layers=2,
        dropout=0.2,
        seed=2,
        precision="float32",
    ),
    "image": replace(
        COMMON, fusion="image-only", width=8, feature_dropout=0.3, seed=3, precision="float32"
    ),
}


def run_sweep(made: Made, run: Path, **how: Any) -> SweepResult:
    return sweep(made.directory, run, heads=HEADS, device=CPU, **how)


@pytest.fixture(scope="module")
def alone(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each head leaves if it is trained alone."""
    folder = tmp_path_factory.mktemp("alone")
    for name, config in HEADS.items():
        train(scenes.directory, folder / name, config=config, device=CPU)
    return {name: without_times(folder / name) for name in HEADS}


def found(run: Path) -> dict[str, dict[str, Any]]:
    return {name: without_times(run / name) for name in HEADS}


def test_each_head_ends_as_if_alone(
    scenes: Made,
    alone: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, answers, settings, curve: every byte; the cache is read once, for all."""
    orders: list[int] = []
    real = BatchReader.batches

    def batches(self: BatchReader, order: BatchPlan) -> Iterator[FeatureBatch]:
        orders.append(order.questions)
        return real(self, order)

    monkeypatch.setattr(BatchReader, "batches", batches)
    torch.manual_seed(3)
    outside = torch.get_rng_state()
    result = run_sweep(scenes, tmp_path / "sweep")
    assert found(tmp_path / "sweep") == alone
    assert orders == [128, 32, 128, 32]
    assert torch.equal(torch.get_rng_state(), outside)
    best = [head.best_accuracy for head in result.heads.values()]
    assert best == sorted(best, reverse=True)
    assert set(result.heads) == set(HEADS)
    assert not result.failed
    trained = load_run(tmp_path / "sweep" / "text", CPU)
    evaluation = evaluate(trained, FeatureCache(scenes.directory), "val", metric=None)
    assert evaluation.accuracy is not None
    assert evaluation.accuracy.overall == result.heads["text"].best_accuracy


@pytest.mark.stops
@pytest.mark.parametrize("number", [6, 18, *(pytest.param(n, marks=slow) for n in range(1, 26))])
def test_a_kill_at_any_step_of_any_head(
    number: int,
    scenes: Made,
    alone: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Heads are then at different places, some in another epoch, and some have not begun."""
    monkeypatch.setattr(TrainingLoop, "save_is_due", True)
    real = frozen_vqa.pipeline.train.loop.save_state
    saves = 0

    def save(path: Path, state: Any) -> None:
        nonlocal saves
        if saves == number:
            raise Killed
        saves += 1
        real(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(frozen_vqa.pipeline.train.loop, "save_state", save)
        with pytest.raises(Killed):
            run_sweep(scenes, tmp_path)
    torch.rand(5)
    run_sweep(scenes, tmp_path, resume=True)
    assert found(tmp_path) == alone


def test_a_signal_saves_all_heads(
    scenes: Made,
    alone: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two steps, never in one; in mid-epoch it goes on with less to read."""
    checks: list[list[int]] = []
    heads: list[Head] = []
    real_init = Head.__init__

    def init(self: Head, name: str, device: torch.device) -> None:
        real_init(self, name, device)
        heads.append(self)

    def check(self: Stop) -> None:
        checks.append([head.trainer.counters.step for head in heads])
        if len(checks) == 2:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Head, "__init__", init)
        patch.setattr(Stop, "check", check)
        with pytest.raises(Stopped):
            run_sweep(scenes, tmp_path)
    assert checks == [[1, 1, 1, 1], [2, 2, 2, 2]]
    assert all(has_state(tmp_path / name) for name in HEADS)
    run_sweep(scenes, tmp_path, resume=True)
    assert found(tmp_path) == alone
    assert not any(has_state(tmp_path / name) for name in HEADS)
    again = run_sweep(scenes, tmp_path, resume=True)  # finished: nothing is trained
    assert set(again.heads) == set(HEADS)
    assert found(tmp_path) == alone


def test_a_head_that_fails_does_not_stop_the_others(
    scenes: Made,
    alone: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Trainer.learn

    def learn(self: Trainer, batch: FeatureBatch) -> bool:
        if self.config == HEADS["concat"] and self.counters.step == 3:
            self.loss.fill_(float("nan"))
        return real(self, batch)

    monkeypatch.setattr(Trainer, "learn", learn)
    result = run_sweep(scenes, tmp_path)
    assert set(result.heads) == {"attention", "text", "image"}
    assert "the loss of epoch 2 is not finite" in result.failed["concat"]
    for name in result.heads:
        assert without_times(tmp_path / name) == alone[name]


def test_what_is_refused(scenes: Made, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="none of these heads has begun here"):
        run_sweep(scenes, tmp_path, resume=True)
    wrong = {"good": COMMON, "odd": replace(COMMON, width=15)}
    with pytest.raises(ConfigError, match=r"odd: width 15 cannot be split over 2 heads"):
        sweep(scenes.directory, tmp_path, heads=wrong, device=CPU)
    assert not any(tmp_path.iterdir())
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"text: there is a run in this folder already"):
        run_sweep(scenes, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_the_command(scenes: Made, tmp_path: Path) -> None:
    """Names, ranks, JSON; a head's config.toml alone trains it again."""
    file = tmp_path / "sweep.toml"
    file.write_text(
        "epochs = 1\nbatch_size = 24\nheads = 2\nwidth = 8\nmin_answer_count = 1\n"
        'seed = [0, 1]\nfusion = ["concat", "question-only"]\n'
    )
    cache, run = scenes.directory, tmp_path / "run"
    done = run_command(
        "train-head", "--cache", cache, "--run", run, "--sweep", file, "--lr", "0.01", "--json"
    )
    assert done.code == 0, done.err
    heads = done.json()["heads"]
    assert {head["name"] for head in heads} == {
        f"fusion={fusion},seed={seed}" for fusion in ("concat", "question-only") for seed in (0, 1)
    }
    assert [h["best_accuracy"] for h in heads] == sorted(
        (h["best_accuracy"] for h in heads), reverse=True
    )
    one = run / "fusion=concat,seed=1"
    config = load_config(one / "config.toml", {})
    assert (config.fusion, config.seed, config.lr, config.width) == ("concat", 1, 0.01, 8)
    train(cache, tmp_path / "alone", config=config, device=CPU)
    assert without_times(tmp_path / "alone") == without_times(one)
