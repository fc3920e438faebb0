"""Curves for TensorBoard: every step once, with its own loss, and none that waits for a device."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import frozen_vqa.pipeline.train.loop
import frozen_vqa.pipeline.train.tensorboard
import frozen_vqa.pipeline.train.train
import frozen_vqa.pipeline.train.trainer
from frozen_vqa.pipeline.train.loop import TrainingLoop
from frozen_vqa.pipeline.train.loss import soft_target_loss
from frozen_vqa.pipeline.train.optimizer import learning_rate
from frozen_vqa.pipeline.train.tensorboard import EVENTS
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made
from tests.support.command import run_command
from tests.support.resuming import CPU, GROUPED, Killed, kill_before_step
from tests.support.summaries import Writer


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    Writer.made = []
    monkeypatch.setattr(frozen_vqa.pipeline.train.tensorboard, "summary_writer", lambda: Writer)
    monkeypatch.setattr(frozen_vqa.pipeline.train.train, "summary_writer", lambda: Writer)
    return Writer.made


def test_each_step_and_epoch_is_written_once(
    scenes: Made, tmp_path: Path, writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches to a step, three steps an epoch; of each step the mean over its questions."""
    batches: list[tuple[float, int]] = []
    written: list[int] = []

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found = soft_target_loss(logits, targets)
        batches.append((found.item(), len(logits)))
        written.append(len(writers[0].scalars))
        return found

    monkeypatch.setattr(frozen_vqa.pipeline.train.trainer, "soft_target_loss", loss)
    monkeypatch.setattr(Trainer, "accuracy", lambda self: 10.0 * (1 + self.counters.epoch))
    train(scenes.directory, tmp_path / "run", config=GROUPED, device=CPU, tensorboard=True)

    (writer,) = writers
    assert (writer.folder, writer.purge_step) == (str(tmp_path / "run" / EVENTS), None)
    assert writer.closed
    assert writer.curve("accuracy") == [(3, 10.0), (6, 20.0)]
    assert writer.curve("learning_rate") == [
        (step, learning_rate(step - 1, steps=6, config=GROUPED)) for step in range(1, 7)
    ]
    for (step, found), i in zip(writer.curve("loss"), range(0, 12, 2), strict=True):
        questions = sum(count for _, count in batches[i : i + 2])
        total = sum(value * count for value, count in batches[i : i + 2])
        assert (step, found) == (1 + i // 2, pytest.approx(total / questions, rel=1e-5))
    assert written == [0] * 6 + [7] * 6  # in an epoch nothing is


def test_curves_go_on_after_a_kill(
    scenes: Made, tmp_path: Path, writers: list[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(scenes.directory, tmp_path / "whole", config=GROUPED, device=CPU, tensorboard=True)
    monkeypatch.setattr(TrainingLoop, "save_is_due", True)
    run = tmp_path / "run"
    with monkeypatch.context() as patch, suppress(Killed):
        kill_before_step(4, patch)
        train(scenes.directory, run, config=GROUPED, device=CPU, tensorboard=True)
    train(scenes.directory, run, config=GROUPED, device=CPU, tensorboard=True, resume=True)
    whole, before, after = writers
    assert after.purge_step == 5
    for tag in ("loss", "learning_rate", "accuracy"):
        found = dict(before.curve(tag)) | dict(after.curve(tag))
        assert found == pytest.approx(dict(whole.curve(tag)), rel=1e-5)
        assert all(step <= 4 for step, _ in before.curve(tag))
        assert all(step >= 5 for step, _ in after.curve(tag))


def test_without_tensorboard_it_is_said_at_once(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ("train-head", "--cache", scenes.directory, "--run", tmp_path / "run")
    found = run_command(*words, "--tensorboard")
    assert found.code == 1
    assert found.err == (
        "error: --tensorboard needs TensorBoard, which is not installed: "
        "pip install 'frozen-vqa[tensorboard]'\n"
    )
    assert not (tmp_path / "run").exists()
