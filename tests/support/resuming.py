"""Trainings that are killed on purpose and go on, and what of them is compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import frozen_vqa.pipeline.train.loop
from benchmarks.torture.kills import TIMES
from frozen_vqa.cache.disk.folders import MARK
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.runs.state import TrainState, save_state
from frozen_vqa.pipeline.train.loop import TrainingLoop, TrainResult
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made

CPU = torch.device("cpu")
GROUPED = TrainConfig(
    width=16,
    heads=2,
    lr=0.01,
    batch_size=24,
    accumulate=2,
    epochs=2,
    min_answer_count=1,
    dropout=0.3,
)
PLAIN = replace(GROUPED, group_by_image=False, accumulate=1, batch_size=40, layers=2)
ALWAYS, NEVER = True, False


class Killed(BaseException):
    """Nothing that the process would do after it is done."""


@pytest.fixture(autouse=True)
def kept_states(monkeypatch: pytest.MonkeyPatch) -> list[TrainState]:
    """Every state that is saved, for the last of a run tells all that was trained."""
    kept: list[TrainState] = []

    def save(run: Path, state: TrainState) -> None:
        tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
        kept.append(replace(state, tensors=tensors))
        save_state(run, state)

    monkeypatch.setattr(frozen_vqa.pipeline.train.loop, "save_state", save)
    return kept


def files(run: Path) -> dict[str, bytes]:
    """Return what a run folder holds, without who writes there now."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    }


def without_times(run: Path) -> dict[str, Any]:
    """Return everything that a run folder holds, but how long it took and where it lies."""
    found: dict[str, Any] = {name: data for name, data in files(run).items() if name != MARK}
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    found["metrics.jsonl"] = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    outcome = json.loads(found["run.json"])
    found["run.json"] = {k: v for k, v in outcome.items() if k not in (*TIMES, "run")}
    return found


def bits(tensors: Any) -> dict[str, Any]:
    return {name: (str(t.dtype), t.shape, t.numpy().tobytes()) for name, t in tensors.items()}


def begin(made: Made, run: Path, config: TrainConfig, **how: Any) -> TrainResult:
    return train(made.directory, run, config=config, device=CPU, **how)


def go_on(made: Made, run: Path, config: TrainConfig) -> TrainResult:
    return begin(made, run, config, resume=True)


def kill_before_step(number: int, patch: pytest.MonkeyPatch) -> None:
    real = Trainer._update

    def update(self: Trainer) -> None:
        if self.counters.step == number:
            raise Killed
        real(self)

    patch.setattr(Trainer, "_update", update)


def killed_before_step(
    number: int, made: Made, run: Path, config: TrainConfig, patch: pytest.MonkeyPatch, **how: Any
) -> bool:
    """Train until a step is about to begin, and return whether the training got there."""
    with patch.context() as inner:
        kill_before_step(number, inner)
        try:
            begin(made, run, config, **how)
        except Killed:
            return True
    return False


def score_by_epoch(accuracies: list[float], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trainer, "accuracy", lambda self: accuracies[self.counters.epoch])


def lay_out(found: dict[str, bytes], run: Path) -> None:
    for name, data in found.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(data)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << place % 8
    path.write_bytes(data)


@pytest.fixture
def stopped(scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed in the midst of its second epoch, with two states."""
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "save_is_due", True)
        assert killed_before_step(5, scenes, tmp_path / "run", GROUPED, patch)
    return tmp_path / "run"
