"""A training that was killed goes on and ends as an undisturbed one, bit for bit."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import frozen_vqa.pipeline.train.loop
from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.folder import CURRENT
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.state import TrainState, save_state
from frozen_vqa.pipeline.runs.weights import read_weights
from frozen_vqa.pipeline.train.loop import TrainingLoop
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support import resuming
from tests.support.caches import Made
from tests.support.resuming import (
    ALWAYS,
    CPU,
    GROUPED,
    NEVER,
    PLAIN,
    Killed,
    begin,
    bits,
    go_on,
    killed_before_step,
    score_by_epoch,
    without_times,
)
from tests.support.trainings import make_trainer

AVERAGED = replace(GROUPED, ema=0.5)
CONFIGS = {"grouped": GROUPED, "plain": PLAIN, "averaged": AVERAGED}

# Fixtures; the first is in force in every test.
kept_states, stopped = resuming.kept_states, resuming.stopped

Whole = tuple[dict[str, Any], dict[str, Any]]
"""What an undisturbed run leaves, and the tensors of its last state."""


@pytest.fixture(scope="module")
def undisturbed(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    found = {}
    for name, config in CONFIGS.items():
        run = tmp_path_factory.mktemp("undisturbed") / "run"
        last: list[TrainState] = []

        def save(run: Path, state: TrainState, last: list[TrainState] = last) -> None:
            last[:] = [replace(state, tensors={k: t.clone() for k, t in state.tensors.items()})]
            save_state(run, state)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frozen_vqa.pipeline.train.loop, "save_state", save)
            begin(scenes, run, config)
        found[name] = without_times(run), bits(last[0].tensors)
    return found


@pytest.mark.stops
@pytest.mark.parametrize(
    ("name", "every"),
    [
        pytest.param("grouped", ALWAYS, id="grouped, a state each step"),
        pytest.param("grouped", NEVER, id="grouped, each epoch", marks=pytest.mark.slow),
        pytest.param("plain", ALWAYS, id="plain, a state each step", marks=pytest.mark.slow),
        pytest.param("plain", NEVER, id="plain, each epoch"),
    ],
)
def test_killed_before_any_step(
    name: str,
    every: bool,
    scenes: Made,
    undisturbed: dict[str, Whole],
    kept_states: list[TrainState],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dropout and moments, in both orders, with accumulation; generators outside moved."""
    monkeypatch.setattr(TrainingLoop, "save_is_due", every)
    config = CONFIGS[name]
    number = 0
    while True:
        run = tmp_path / str(number)
        if not killed_before_step(number, scenes, run, config, monkeypatch):
            break
        if every:
            assert kept_states[-1].counters.step == number
        torch.rand(5)
        result = go_on(scenes, run, config)
        assert (without_times(run), bits(kept_states[-1].tensors)) == undisturbed[name], number
        assert result.seconds > 0
        number += 1
    assert number == {"grouped": 6, "plain": 8}[name]


def test_killed_again_and_again(
    scenes: Made,
    undisturbed: dict[str, Whole],
    kept_states: list[TrainState],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TrainingLoop, "save_is_due", True)
    run = tmp_path / "run"
    for number in range(1, 8):
        assert killed_before_step(number, scenes, run, PLAIN, monkeypatch, resume=number > 1)
    go_on(scenes, run, PLAIN)
    assert (without_times(run), bits(kept_states[-1].tensors)) == undisturbed["plain"]


@pytest.mark.parametrize("name", ["plain", "averaged"])
def test_steps_go_on_while_a_state_is_written_and_change_nothing_of_it(
    name: str,
    scenes: Made,
    undisturbed: dict[str, Whole],
    kept_states: list[TrainState],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, averages, moments, generators and place are those of one moment."""
    later, run = threading.Event(), tmp_path / "run"
    kept, update = frozen_vqa.pipeline.train.loop.save_state, Trainer._update

    def save(run: Path, state: TrainState) -> None:
        assert state.counters.step == 0 or later.wait(10), "training waits for the save"
        kept(run, state)

    def step(self: Trainer) -> None:
        update(self)
        if self.counters.step == 2:
            later.set()

    with monkeypatch.context() as patch:
        patch.setattr(frozen_vqa.pipeline.train.loop, "save_state", save)
        patch.setattr(Trainer, "_update", step)
        after_first = property(lambda loop: loop.trainer.counters.step == 1)
        patch.setattr(TrainingLoop, "save_is_due", after_first)
        assert killed_before_step(2, scenes, run, CONFIGS[name], patch)
    assert [state.counters.step for state in kept_states] == [0, 1]
    go_on(scenes, run, CONFIGS[name])
    assert (without_times(run), bits(kept_states[-1].tensors)) == undisturbed[name]


def test_averaged_weights_go_on_in_mid_epoch(
    scenes: Made,
    undisturbed: dict[str, Whole],
    kept_states: list[TrainState],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TrainingLoop, "save_is_due", True)
    run = tmp_path / "run"
    assert killed_before_step(4, scenes, run, AVERAGED, monkeypatch)
    assert kept_states[-1].counters.batch == 2
    go_on(scenes, run, AVERAGED)
    assert (without_times(run), bits(kept_states[-1].tensors)) == undisturbed["averaged"]


def test_what_a_state_is_made_of(
    kept_states: list[TrainState], scenes: Made, tmp_path: Path
) -> None:
    """A state that lacked one of these could still pass where it happens not to matter."""
    begin(scenes, tmp_path / "run", GROUPED)
    first, last = kept_states[0], kept_states[-1]
    assert [state.counters.epoch for state in kept_states] == [0, 0, 1]
    weights = read_weights(tmp_path / "run" / CURRENT).tensors.keys()
    assert first.tensors.keys() == {f"model.{n}" for n in weights} | {"epoch.loss", "rng.cpu"}
    moments = {f"optimizer.{n}.{k}" for n in weights for k in ("step", "exp_avg", "exp_avg_sq")}
    assert last.tensors.keys() == first.tensors.keys() | moments
    assert float(last.tensors["optimizer.head.bias.step"]) == last.counters.step == 6
    assert last.counters.batch == 6
    assert not (tmp_path / "run" / "state").exists()  # of no use any more


def test_resuming_what_ended_early(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Killed after its last state, it trains no further; finished, it is finished."""
    score_by_epoch([30.0, 20.0, 10.0], monkeypatch)
    run, config = tmp_path / "run", replace(GROUPED, batch_size=64, epochs=3, patience=1)
    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(frozen_vqa.pipeline.train.loop, "finish_run", killed)
        begin(scenes, run, config)
    result = go_on(scenes, run, config)
    assert (result.epochs, result.best_epoch) == (2, 1)
    assert go_on(scenes, run, config) == result
    assert "this training is finished" in capsys.readouterr().err.splitlines()[-1]


def killed(*_: object) -> None:
    raise Killed


def test_a_run_in_training_can_be_used(stopped: Path) -> None:
    assert load_run(stopped, CPU).config == GROUPED


def test_a_reader_begins_in_the_midst_of_a_plan(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes then is what would have come; the rows are read no more than once."""
    trainer = make_trainer(scenes, seed=3)
    plan = trainer.plan(1)
    whole = [content(b) for b in read(trainer, plan)]
    for start in range(len(plan) + 1):
        part = [content(b) for b in read(trainer, plan[start:])]
        assert part == whole[start:]


def content(batch: Any) -> list[Any]:
    return [batch.questions.tolist(), *(part.patch_embeddings.tolist() for part in batch.parts)]


def read(trainer: Trainer, plan: Any) -> Iterator[Any]:
    return trainer.train_reader.batches(plan)


def test_no_score_outlives_the_weights_that_it_is_of(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training is stopped, evaluated and resumed: better weights come, or none do."""
    for name, accuracies, stays in ("better", [10.0, 20.0], False), ("worse", [20.0, 10.0], True):
        score_by_epoch(accuracies, monkeypatch)
        run = tmp_path / name
        assert killed_before_step(4, scenes, run, GROUPED, monkeypatch)
        scored = evaluate(load_run(run, CPU), FeatureCache(scenes.directory), "val")
        assert scored.results is not None
        go_on(scenes, run, GROUPED)
        assert [scored.results.exists(), (run / "README.md").read_text().count("questions)")] == [
            stays,
            int(stays),
        ]
