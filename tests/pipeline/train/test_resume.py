"""A training that was killed, damaged or moved ends as an undisturbed one, bit for bit."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import frozen_vqa.pipeline.train.loop
from frozen_vqa.cache import CacheWriter, FeatureCache
from frozen_vqa.cache.format.shards import NewQuestions
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.state import TrainState, recover_state, save_state, state_files
from frozen_vqa.pipeline.runs.weights import CURRENT, read_weights
from frozen_vqa.pipeline.train.resume import fingerprint_cache
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support import resuming
from tests.support.caches import (
    PATCHES,
    TEXT_DIM,
    VISION_DIM,
    Made,
    add_images,
    add_questions,
    make_spec,
    new_images,
)
from tests.support.resuming import (
    ALWAYS,
    CPU,
    GROUPED,
    NEVER,
    PLAIN,
    Killed,
    begin,
    bits,
    files,
    flip,
    go_on,
    kill_before_step,
    lay_out,
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
    every: float,
    scenes: Made,
    undisturbed: dict[str, Whole],
    kept_states: list[TrainState],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dropout and moments, in both orders, with accumulation; generators outside moved."""
    monkeypatch.setattr(frozen_vqa.pipeline.train.loop, "CHECKPOINT_SECONDS", every)
    config = CONFIGS[name]
    number = 0
    while True:
        run = tmp_path / str(number)
        with monkeypatch.context() as patch:
            kill_before_step(number, patch)
            try:
                begin(scenes, run, config)
            except Killed:
                pass
            else:
                break
        if every == ALWAYS:
            assert kept_states[-1].counters.step == number
        torch.rand(5)
        result = go_on(scenes, run, config)
        assert without_times(run) == undisturbed[name][0], number
        assert bits(kept_states[-1].tensors) == undisturbed[name][1], number
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
    monkeypatch.setattr(frozen_vqa.pipeline.train.loop, "CHECKPOINT_SECONDS", ALWAYS)
    run = tmp_path / "run"
    for number in range(1, 8):
        with monkeypatch.context() as patch, suppress(Killed):
            kill_before_step(number, patch)
            begin(scenes, run, PLAIN, resume=number > 1)
    go_on(scenes, run, PLAIN)
    assert without_times(run) == undisturbed["plain"][0]
    assert bits(kept_states[-1].tensors) == undisturbed["plain"][1]


def test_averaged_weights_go_on_in_mid_epoch(
    scenes: Made,
    undisturbed: dict[str, Whole],
    kept_states: list[TrainState],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frozen_vqa.pipeline.train.loop, "CHECKPOINT_SECONDS", ALWAYS)
    run = tmp_path / "run"
    with monkeypatch.context() as patch, suppress(Killed):
        kill_before_step(4, patch)
        begin(scenes, run, AVERAGED)
    assert kept_states[-1].counters.batch == 2
    go_on(scenes, run, AVERAGED)
    assert without_times(run) == undisturbed["averaged"][0]
    assert bits(kept_states[-1].tensors) == undisturbed["averaged"][1]


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


def test_a_disk_that_is_full_at_a_checkpoint(
    scenes: Made,
    undisturbed: dict[str, Whole],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frozen_vqa.pipeline.train.loop, "CHECKPOINT_SECONDS", ALWAYS)
    real, run = os.fsync, tmp_path / "run"
    for calls in (15, 12, 5):
        left = calls

        def full(handle: int) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise OSError(28, "No space left on device")
            real(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
                begin(scenes, run, GROUPED, resume=run.exists())
        assert not list(run.rglob("*.partial"))
    go_on(scenes, run, GROUPED)
    assert without_times(run) == undisturbed["grouped"][0]


def test_a_damaged_state_gives_way_to_the_one_before(stopped: Path, tmp_path: Path) -> None:
    """Never to other numbers: every flip is found, or changes nothing."""
    whole = files(stopped)
    last, previous = (
        bits(sealed.read_sealed(path, "")[0])
        for path in (state_files(stopped).current, state_files(stopped).previous)
    )
    assert last != previous
    size = len(whole["state/state.safetensors"])
    places = [*range(0, 3000, 20), *range(3000, size, 1 + size // 100)]
    fell_back = 0
    for place in places:
        lay_out(whole, stopped)
        flip(state_files(stopped).current, place)
        state = recover_state(stopped)
        assert bits(state.tensors) in (last, previous), place
        assert state.counters.step == (5 if bits(state.tensors) == last else 4)
        fell_back += state.counters.step == 4
        assert state_files(stopped).previous.exists() == (state.counters.step == 5)
    assert fell_back > 0.97 * len(places)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: flip(path, -9), "does not fit its digest; it was changed or damaged"),
        (lambda path: path.write_bytes(b""), "does not fit the format of a training state"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_going_on_from_the_state_before(
    damage: Callable[[Path], Any],
    said: str,
    stopped: Path,
    scenes: Made,
    undisturbed: dict[str, Whole],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(state_files(stopped).current)
    go_on(scenes, stopped, GROUPED)
    lines = [line for line in capsys.readouterr().err.splitlines() if "continuing from" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"{state_files(stopped).current}: {said}")
    assert lines[0].endswith(
        "; continuing from the state before it, of epoch 2, batch 2, which leads to the same end"
    )
    assert without_times(stopped) == undisturbed["grouped"][0]


def test_metrics_are_cut_back_and_filled_up(
    stopped: Path, scenes: Made, undisturbed: dict[str, Whole]
) -> None:
    for text in ("", '{"epoch": 1}\n{"epoch": 2}\n{"ep', None):
        run = stopped.with_name(f"run {text}".replace("\n", "")[:9])
        shutil.copytree(stopped, run)
        if text is None:
            (run / "metrics.jsonl").unlink()
        else:
            (run / "metrics.jsonl").write_text(text)
        go_on(scenes, run, GROUPED)
        assert without_times(run) == undisturbed["grouped"][0]


def test_a_cache_that_was_moved_or_extended_is_the_same(
    stopped: Path, scenes: Made, undisturbed: dict[str, Whole], tmp_path: Path
) -> None:
    shutil.copytree(scenes.directory, tmp_path / "moved")
    splits = {name: FeatureCache(scenes.directory).split(name) for name in ("train", "val")}
    before = fingerprint_cache(FeatureCache(scenes.directory), splits)
    with CacheWriter(tmp_path / "moved", make_spec()) as writer:
        features = np.ones((3, PATCHES, VISION_DIM), np.float16)
        add_images(writer, new_images(["x", "y", "z"], features, features.mean(1)))
        add_questions(
            writer,
            NewQuestions(
                texts=["more?"],
                paths=[[len(scenes.states) + 2]],
                parents=np.array([-1]),
                tokens=np.array([99]),
                hidden_states=np.ones((1, TEXT_DIM), np.float16),
            ),
        )
        table = FeatureCache(scenes.directory).split("test")
        writer.set_split("more", replace(table, image_rows=table.image_rows + 80), left_out=0)
    extended = FeatureCache(tmp_path / "moved")
    assert fingerprint_cache(extended, {n: extended.split(n) for n in ("train", "val")}) == before
    assert fingerprint_cache(extended, {n: extended.split(n) for n in ("train", "more")}) != before
    go_on(replace(scenes, directory=tmp_path / "moved"), stopped, GROUPED)
    whole = dict(undisturbed["grouped"][0])
    whole["run.json"] = {**whole["run.json"], "cache": str(tmp_path / "moved")}
    assert without_times(stopped) == whole


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
    whole = [(b.questions.tolist(), b.patch_embeddings.tolist()) for b in read(trainer, plan)]
    for start in range(len(plan) + 1):
        part = [
            (b.questions.tolist(), b.patch_embeddings.tolist()) for b in read(trainer, plan[start:])
        ]
        assert part == whole[start:]


def read(trainer: Trainer, plan: Any) -> Iterator[Any]:
    return trainer.train_reader.batches(plan)
