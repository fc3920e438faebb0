"""Several ranks train the head that one process trains."""

import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import frozen_vqa.pipeline.train.trainer
from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.runs.state import TrainingFingerprint
from frozen_vqa.pipeline.runs.weights import read_weights
from frozen_vqa.pipeline.system.device import choose_device
from frozen_vqa.pipeline.system.ranks import Ranks
from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.parallel import distribute
from frozen_vqa.pipeline.train.resume import require_same_fingerprint
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made
from tests.support.command import run_command
from tests.support.repository import ROOT
from tests.support.several_ranks import SETTINGS, Silent, curve
from tests.support.torchrun import torchrun
from tests.support.trainings import make_trainer

WORKER = ROOT / "tests" / "support" / "train_worker.py"
NEVER = "all:SIGKILL:99"


def gradients(trainer: Trainer, patch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Return the gradients of each step of an epoch in which no step is made."""
    steps: list[list[Tensor]] = []

    def record(self: Trainer) -> None:
        steps.append([p.grad.clone() for p in self.model.parameters() if p.grad is not None])
        self.optimizer.zero_grad(set_to_none=True)

    patch.setattr(Trainer, "_update", record)
    trainer.epoch(0)
    return steps


@pytest.mark.parametrize(("world", "shares"), [(2, 0), (5, 0), (2, 2)])
def test_gradients_of_parts_average_to_those_of_the_batch(
    world: int, shares: int, scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five ranks: the last batch has four pictures."""
    monkeypatch.setattr(frozen_vqa.pipeline.train.trainer, "distribute", lambda model, *_: model)
    how = {"dropout": 0.0, "precision": "float32", "accumulate": 2, "shares": shares}
    whole = make_trainer(scenes, **how)
    assert min(map(len, whole.plan(0))) == 4
    expected = gradients(whole, monkeypatch)
    trainers = [make_trainer(scenes, **how) for _ in range(world)]
    for rank, trainer in enumerate(trainers):
        trainer.ranks = Silent(rank, world)
    found = [gradients(trainer, monkeypatch) for trainer in trainers]

    assert len(expected) == 3
    for step, parts in zip(expected, zip(*found, strict=True), strict=True):
        for gradient, *mine in zip(step, *parts, strict=True):
            assert_close(torch.stack(mine).mean(0), gradient, atol=1e-6, rtol=1e-5)
    assert_close(torch.stack([t.loss for t in trainers]).sum(), whole.loss)


@pytest.mark.parametrize("world", [2, 3, 20])
def test_ranks_share_a_split(world: int, scenes: Made) -> None:
    """Each question is answered by one of them, in the same batch as by a single process."""
    trainer = make_trainer(scenes)
    split = trainer.train_split
    (expected,) = predict([trainer.model], trainer.train_reader, split, batch_size=8)
    batches, found = [], []
    for rank in range(world):
        calls: list[None] = []
        (answers,) = predict(
            [trainer.model.train()],
            trainer.train_reader,
            split,
            batch_size=8,
            ranks=Silent(rank, world),
            after_batch=lambda calls=calls: calls.append(None),
        )
        found.append(answers)
        batches.append(len(calls))
    assert sum(found).tolist() == expected.tolist()
    assert batches == [-(-16 // world)] * world


def command(made: Made, run: Path, **changes: object) -> list[str]:
    path = run.with_suffix(".toml")
    lines = [f"{name} = {value}" for name, value in changes.items()]
    path.write_text("\n".join([SETTINGS, *lines]), encoding="utf-8")
    return [
        "train-head", "--cache", str(made.directory), "--run", str(run), "--config", str(path),
        "--no-report",
    ]  # fmt: skip


@pytest.mark.stops
def test_two_ranks_train_as_one_process(scenes: Made, tmp_path: Path) -> None:
    """With accumulation, clipping, averaged weights, and a last batch of two pictures."""
    words = command(scenes, tmp_path / "two", dropout=0.0)
    done = torchrun(2, ROOT / "cli.py", *words, "--json")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # one object: only the first rank speaks
    assert done.stderr.count("epoch 1/3: loss") == 1
    assert "Warning" not in done.stderr
    alone = run_command(*command(scenes, tmp_path / "one", dropout=0.0), "--json").json()
    names = {"run", "seconds", "questions_per_second", "data_wait_fraction"}
    assert {k: v for k, v in result.items() if k not in names} == {
        k: v for k, v in alone.items() if k not in names
    }
    for two, one in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert two == pytest.approx(one, abs=1e-4)
    weights = [read_weights(tmp_path / run / "model.safetensors").tensors for run in ("two", "one")]
    assert_close(*weights, atol=1e-3, rtol=0)
    assert not (tmp_path / "two" / "state").exists()
    scored = run_command("evaluate", "--run", tmp_path / "two", "--json").json()
    assert scored["accuracy"]["overall"] == result["best_accuracy"]


def train_worker(ranks: int, event: str, words: Sequence[str]) -> Any:
    return torchrun(ranks, WORKER, event, *words)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_killed_and_resumed_ranks_end_as_undisturbed_ones(
    ranks: int, scenes: Made, tmp_path: Path
) -> None:
    """With dropout. Three sum in an order that depends on where a number lies."""
    whole = command(scenes, tmp_path / "whole", dropout=0.3)
    assert train_worker(ranks, NEVER, whole).returncode == 0
    words = command(scenes, tmp_path / "killed", dropout=0.3)
    assert "SIGKILL" in train_worker(ranks, "all:SIGKILL:4", words).stderr
    again = train_worker(ranks, NEVER, [*words, "--resume"])

    assert again.returncode == 0, again.stderr
    assert "continuing after 1 of 3 epochs, 4 of 9 steps" in again.stderr
    assert curve(tmp_path / "whole") == curve(tmp_path / "killed")
    weights = [
        read_weights(tmp_path / run / "model.safetensors").tensors for run in ("whole", "killed")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "said", "steps"),
    [
        ("1:fails:4", "error: rank 1: made to fail\n", 4),
        ("0:fails:4", "error: rank 0: made to fail\n", 4),
        ("all:fails:4", ": made to fail\n", 4),
        ("1:SIGKILL:4", "error: rank 0: another rank was killed", 4),
        ("0:SIGKILL:4", "error: rank 1: another rank was killed", 4),
        ("1:SIGTERM:4", "stopped; to go on, run the same torchrun command again with --resume", 5),
        ("all:SIGINT:4", "stopped; to go on, run the same torchrun command again with --resume", 5),
    ],
)
def test_what_ends_one_rank_ends_all(
    event: str, said: str, steps: int, scenes: Made, tmp_path: Path
) -> None:
    """With one message; a signal to one is obeyed by all after the same step."""
    words = command(scenes, tmp_path / "run", dropout=0.3)
    ended = train_worker(2, event, words)

    assert ended.returncode != 0
    assert ended.stderr.count(said) == 1
    assert ended.stderr.count("error: rank") + ended.stderr.count("stopped; to go on") == 1
    for ranks, refused in ((3, True), (2, False)):
        again = train_worker(ranks, NEVER, [*words, "--resume"])
        assert (again.returncode != 0) == refused
        assert (
            again.stderr.count("began on 2 ranks of torchrun, and cannot continue on 3") == refused
        )
    assert f"continuing after 1 of 3 epochs, {steps} of 9 steps" in again.stderr


def test_another_number_of_ranks_is_refused(tmp_path: Path) -> None:
    machine = {"device": "cpu", "ranks": 2}
    was = TrainingFingerprint({}, {}, {}, machine)
    require_same_fingerprint(tmp_path, was, replace(was), cache=tmp_path)
    with pytest.raises(RunError, match=r"began on 2 ranks of torchrun, and cannot continue on 1"):
        require_same_fingerprint(
            tmp_path, was, replace(was, machine={**machine, "ranks": 1}), cache=tmp_path
        )


def obeying(heard: list[int]) -> None:
    with Stop() as stop:
        stop.obey(0)
        try:
            stop.obey(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # torchrun sends it to all, sooner or later
            heard.append(0)


def test_a_signal_that_another_rank_had() -> None:
    """It ends this one with the same code; its own is then the first, and does not act at once."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(SystemExit) as caught:
            obeying(heard)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert heard == [0, signal.SIGTERM]
    assert isinstance(caught.value.__context__, Stopped)


def test_each_rank_has_its_gpu_and_its_share_of_the_memory(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frozen_vqa.pipeline.batches.residency.free_memory", lambda: 1000)
    cache = FeatureCache(scenes.directory)
    cpu = torch.device("cpu")
    assert ResidentFeatures(cache, device=cpu).free == 1000
    given = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert ResidentFeatures(cache, device=cpu).free == 250

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 1)
    model = make_trainer(scenes).model
    with pytest.raises(ConfigError, match=r"4 ranks on a machine with 2 GPUs.*--nproc-per-node 2"):
        distribute(model, Ranks(1, 4), torch.device("cuda", 1))
