"""A training that was killed, stopped or without power ends as an undisturbed one, bit for bit."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caches import (
    PATCHES,
    TEXT_DIM,
    VISION_DIM,
    Made,
    add_images,
    add_questions,
    make_cache,
    make_spec,
    new_images,
)
from command import Finished, frozen_vqa
from power import Names, left_behind, recorded

import pipeline.train
import pipeline.training
from benchmarks.torture_kills import TIMES
from cache import CacheError, CacheMismatchError, CacheWriter, FeatureCache
from cache.shards import NewQuestions
from pipeline import sealed
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, RunError
from pipeline.resume import fingerprint, save_best
from pipeline.runs import load_run
from pipeline.state import (
    TrainState,
    has_state,
    recover_state,
    remove_state,
    save_state,
    state_files,
)
from pipeline.stopping import Stop, Stopped
from pipeline.train import train
from pipeline.trainer import Trainer
from pipeline.training import TrainResult
from pipeline.weights import CURRENT, PREVIOUS, read_weights

ROOT = Path(__file__).parents[1]
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
AVERAGED = replace(GROUPED, ema=0.5)
CONFIGS = {"grouped": GROUPED, "plain": PLAIN, "averaged": AVERAGED}
ALWAYS, NEVER = 0.0, float("inf")


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

    monkeypatch.setattr(pipeline.training, "save_state", save)
    return kept


def files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()
    }


def without_times(run: Path) -> dict[str, Any]:
    """Return everything that a run folder holds, but how long it took and where it lies."""
    found: dict[str, Any] = dict(files(run))
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
            patch.setattr(pipeline.training, "save_state", save)
            begin(scenes, run, config)
        found[name] = without_times(run), bits(last[0].tensors)
    return found


def kill_before_step(number: int, patch: pytest.MonkeyPatch) -> None:
    real = Trainer._update

    def update(self: Trainer) -> None:
        if self.step == number:
            raise Killed
        real(self)

    patch.setattr(Trainer, "_update", update)


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
    monkeypatch.setattr(pipeline.training, "CHECKPOINT_SECONDS", every)
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
            assert kept_states[-1].progress.step == number
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
    monkeypatch.setattr(pipeline.training, "CHECKPOINT_SECONDS", ALWAYS)
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
    monkeypatch.setattr(pipeline.training, "CHECKPOINT_SECONDS", ALWAYS)
    run = tmp_path / "run"
    with monkeypatch.context() as patch, suppress(Killed):
        kill_before_step(4, patch)
        begin(scenes, run, AVERAGED)
    assert kept_states[-1].progress.batch == 2
    go_on(scenes, run, AVERAGED)
    assert without_times(run) == undisturbed["averaged"][0]
    assert bits(kept_states[-1].tensors) == undisturbed["averaged"][1]


def test_what_a_state_is_made_of(
    kept_states: list[TrainState], scenes: Made, tmp_path: Path
) -> None:
    """A state that lacked one of these could still pass where it happens not to matter."""
    begin(scenes, tmp_path / "run", GROUPED)
    first, last = kept_states[0], kept_states[-1]
    assert [state.progress.epoch for state in kept_states] == [0, 0, 1]
    weights = read_weights(tmp_path / "run" / CURRENT).tensors.keys()
    assert first.tensors.keys() == {f"model.{n}" for n in weights} | {"epoch.loss", "rng.cpu"}
    moments = {f"optimizer.{n}.{k}" for n in weights for k in ("step", "exp_avg", "exp_avg_sq")}
    assert last.tensors.keys() == first.tensors.keys() | moments
    assert float(last.tensors["optimizer.head.bias.step"]) == last.progress.step == 6
    assert last.progress.batch == 6
    assert not (tmp_path / "run" / "state").exists()  # of no use any more


# --- a kill between any two writes ---------------------------------------------------------------

ACCURACIES = {
    "rising": [10.0, 20.0, 30.0],
    "falling": [30.0, 20.0, 10.0],
    "between": [10.0, 30.0, 20.0],
}


def score_by_epoch(accuracies: list[float], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trainer, "accuracy", lambda self: accuracies[self.running])


class Snapshots:
    """What a kill would leave of a folder: before each call that changes it, and in mid-write."""

    def __init__(self, run: Path, patch: pytest.MonkeyPatch) -> None:
        self.run, self.seen = run, [files(run)] if run.exists() else []
        self.main = threading.get_ident()
        for owner, name in (
            (os, "fsync"),
            (os, "link"),
            (os, "open"),
            (os, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
        ):
            patch.setattr(owner, name, self.watched(getattr(owner, name)))
        self.write = os.write
        patch.setattr(os, "write", self.half_writing)

    def look(self) -> None:
        if threading.get_ident() == self.main and self.run.exists():
            now = files(self.run)
            if now not in self.seen:
                self.seen.append(now)

    def watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        busy = False

        def call(*args: Any, **settings: Any) -> Any:
            nonlocal busy
            if not busy:
                busy = True
                self.look()
                busy = False
            return real(*args, **settings)

        return call

    def half_writing(self, handle: int, data: memoryview) -> int:
        half = len(data) // 2
        self.write(handle, data[:half])
        self.look()
        return half + self.write(handle, data[half:])


def lay_out(found: dict[str, bytes], run: Path) -> None:
    for name, data in found.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(data)


def end_well(made: Made, run: Path, config: TrainConfig) -> bool:
    """Go on with what is left, or train anew where nothing had begun; say which."""
    if has_state(run):
        go_on(made, run, config)
        return True
    with pytest.raises(RunError, match=r"no training here to go on with .*Train without --resume"):
        go_on(made, run, config)
    begin(made, run, config, overwrite=True)
    return False


@pytest.mark.parametrize("curve", ACCURACIES)
def test_killed_between_any_two_writes(
    curve: str, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once more after a second kill: what the first resume has mended stays mended."""
    score_by_epoch(ACCURACIES[curve], monkeypatch)
    config = replace(GROUPED, batch_size=64, epochs=3)
    with monkeypatch.context() as patch:
        seen = Snapshots(tmp_path / "whole", patch).seen
        begin(scenes, tmp_path / "whole", config)
    whole = without_times(tmp_path / "whole")
    assert read_weights(tmp_path / "whole" / CURRENT).accuracy == 30
    best = 1 + ACCURACIES[curve].index(30)
    previous = tmp_path / "whole" / PREVIOUS
    assert not previous.exists() if best == 1 else read_weights(previous).epoch == best - 1
    assert len(seen) > 40
    resumed = 0
    for number, found in enumerate(seen):
        run = tmp_path / str(number)
        lay_out(found, run)
        if "run.json" in found and "best_accuracy" in json.loads(found["run.json"]):
            result = go_on(scenes, run, config)
            assert (result.run, result.best_epoch) == (str(run), best)
        else:
            resumed += end_well(scenes, run, config)
        assert without_times(run) == whole, number
    assert resumed > 30


def test_killed_while_a_resume_mends(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the best epoch was saved, its weights were not; or they were, and it is lost."""
    score_by_epoch([10.0, 20.0, 30.0], monkeypatch)
    config = replace(GROUPED, batch_size=64, epochs=3)
    with monkeypatch.context() as patch:
        seen = Snapshots(tmp_path / "whole", patch).seen
        begin(scenes, tmp_path / "whole", config)
    whole = without_times(tmp_path / "whole")
    for number, found in enumerate(seen[::7]):
        if not {"state/state.safetensors", "state/state.previous.safetensors"} <= found.keys():
            continue
        run = tmp_path / str(number)
        lay_out(found, run)
        data = bytearray(found["state/state.safetensors"])
        data[-1] ^= 1
        (run / "state/state.safetensors").write_bytes(data)
        with monkeypatch.context() as patch:
            again = Snapshots(run, patch).seen
            go_on(scenes, run, config)
        assert without_times(run) == whole
        for second, left in enumerate(again[:25:3]):
            run = tmp_path / f"{number} {second}"
            lay_out(left, run)
            go_on(scenes, run, config)
            assert without_times(run) == whole, (number, second)


def test_best_weights_that_were_damaged_but_lie_in_the_state(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before they were written; what is damaged does not become the previous ones."""
    score_by_epoch([10.0, 30.0], monkeypatch)

    def killed(*_: object) -> None:
        if len(recover_state(tmp_path / "run").progress.metrics) == 2:
            raise Killed
        save_best(*_)

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(pipeline.training, "save_best", killed)
        begin(scenes, tmp_path / "run", GROUPED)
    assert read_weights(tmp_path / "run" / CURRENT).epoch == 1
    flip(tmp_path / "run" / CURRENT, -9)
    go_on(scenes, tmp_path / "run", GROUPED)
    assert read_weights(tmp_path / "run" / CURRENT).epoch == 2
    assert not (tmp_path / "run" / PREVIOUS).exists()


@pytest.mark.parametrize("keep", ["safe", pytest.param("all", marks=pytest.mark.slow), "some"])
def test_a_loss_of_power_after_any_sync(
    keep: str, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_by_epoch([10.0, 30.0], monkeypatch)
    config = replace(GROUPED, batch_size=64)

    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)  # which the simulated disk does not know
    root = tmp_path / "root"
    root.mkdir()
    with recorded(root) as disk:
        begin(scenes, root / "run", config)
    whole = without_times(root / "run")
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # power is lost once
    rng = random.Random(keep)
    moments: list[tuple[Names, Names]] = disk.moments
    assert len(moments) > 30
    for number, moment in enumerate(moments):
        run = tmp_path / str(number) / "run"
        left_behind(moment, run.parent, keep=keep, rng=rng)
        outcome = run / "run.json"
        if outcome.exists() and b"best_accuracy" in outcome.read_bytes():
            go_on(scenes, run, config)
        elif run.exists():
            end_well(scenes, run, config)
        else:
            continue
        assert without_times(run) == whole, number


def test_a_disk_that_is_full_at_a_checkpoint(
    scenes: Made,
    undisturbed: dict[str, Whole],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline.training, "CHECKPOINT_SECONDS", ALWAYS)
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


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture
def stopped(scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed in the midst of its second epoch, with two states."""
    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(pipeline.training, "CHECKPOINT_SECONDS", ALWAYS)
        kill_before_step(5, patch)
        begin(scenes, tmp_path / "run", GROUPED)
    return tmp_path / "run"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << place % 8
    path.write_bytes(data)


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
        assert state.progress.step == (5 if bits(state.tensors) == last else 4)
        fell_back += state.progress.step == 4
        assert state_files(stopped).previous.exists() == (state.progress.step == 5)
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
    lines = [line for line in capsys.readouterr().err.splitlines() if "going on from" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"{state_files(stopped).current}: {said}")
    assert lines[0].endswith(
        "; going on from the state before it, of epoch 2, batch 2, which ends the same"
    )
    assert without_times(stopped) == undisturbed["grouped"][0]


def test_two_damaged_states(stopped: Path, scenes: Made) -> None:
    for path in (state_files(stopped).current, state_files(stopped).previous):
        flip(path, -9)
    before = files(stopped)
    message = (
        r"state\.safetensors: does not fit its digest.*, and state\.previous\.safetensors does not "
        r"fit its digest.*Restore one from a copy, or train .* --overwrite in place of --resume"
    )
    with pytest.raises(RunError, match=message):
        go_on(scenes, stopped, GROUPED)
    assert files(stopped) == before
    begin(scenes, stopped, GROUPED, overwrite=True)
    assert not has_state(stopped)


def test_a_state_is_no_pickle_and_of_no_other_form(stopped: Path) -> None:
    """From elsewhere: whoever can write the file can write the digest."""
    state_files(stopped).previous.unlink()
    path = state_files(stopped).current
    tensors, record = sealed.read_sealed(path, "")
    changed: list[dict[str, Any]] = [
        {**record, "format": 99},
        {**record, "progress": {}},
        {**record, "progress": {**record["progress"], "step": "5"}},
        {**record, "progress": {**record["progress"], "more": 5}},
        {**record, "began": {**record["began"], "config": 3}},
        {"format": record["format"]},
    ]
    for other in changed:
        path.write_bytes(sealed.seal(tensors, other))
        with pytest.raises(
            RunError, match=r"state\.safetensors: (has format 99|does not fit the f)"
        ):
            recover_state(stopped)
    path.write_bytes(sealed.seal(tensors, record))
    assert recover_state(stopped).progress.step == 5


def test_the_state_of_another_head(stopped: Path, scenes: Made) -> None:
    tensors, record = sealed.read_sealed(state_files(stopped).current, "")
    del tensors["model.head.bias"]
    state_files(stopped).current.write_bytes(sealed.seal(tensors, record))
    with pytest.raises(RunError, match=r"its state is that of another head \(.*head\.bias"):
        go_on(scenes, stopped, GROUPED)


def test_best_weights_that_were_damaged_meanwhile(stopped: Path, scenes: Made) -> None:
    flip(stopped / CURRENT, -9)
    with pytest.raises(RunError, match=r"model\.safetensors: does not fit its digest"):
        go_on(scenes, stopped, GROUPED)
    shutil.copy(state_files(stopped).current, stopped / CURRENT)
    with pytest.raises(RunError, match=r"model\.safetensors: "):
        go_on(scenes, stopped, GROUPED)


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


# --- what may not have changed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, r"epochs was 2 when it began, and 3 is asked for, another schedule\. A tr"),
        ({"lr": 0.5}, r"lr was 0.01 when it began, and 0.5 is asked for, another schedule"),
        ({"dropout": 0.0}, r"dropout was 0.3 when it began, and 0.0 is asked for\. A training"),
        ({"seed": 1, "width": 32}, r"width was 16 .* 32 is asked for; seed was 0 .* 1 is asked"),
        ({"val_split": "train"}, r"val_split was 'val' .* 'train' is asked for"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_changed_settings_are_refused(
    finished: bool, changes: dict[str, Any], message: str, stopped: Path, scenes: Made
) -> None:
    if finished:
        go_on(scenes, stopped, GROUPED)
    before = files(stopped)
    with pytest.raises(ConfigError, match=message):
        go_on(scenes, stopped, replace(GROUPED, **changes))
    assert files(stopped) == before


def other_cache(path: Path, scenes: Made, **changes: Any) -> Made:
    """The same cache again, or one that differs in one respect."""
    how = {
        "splits": scenes.splits,
        "patch_embeddings": scenes.patch_embeddings,
        "states": scenes.states,
    }
    return make_cache(path, **(how | changes))


def moved_answer(scenes: Made, split: str) -> dict[str, Any]:
    rows = list(scenes.splits[split])
    rows[0] = replace(rows[0], answers=("red",) * 9 + ("blue",))
    return {**scenes.splits, split: rows}


def test_a_changed_cache_is_refused(stopped: Path, scenes: Made, tmp_path: Path) -> None:
    brighter = scenes.patch_embeddings.copy()
    brighter[-1, 0, 0] += 1
    longer = [scenes.states[0] + 1, scenes.states[1]]
    spec = make_spec(vision={"model": "made-up-vision", "image size": 42})
    changes: dict[str, dict[str, Any]] = {
        "vision image size is 42, and was 28": {"spec": spec},
        "dtype is 'float32', and was 'float16'": {"spec": make_spec(dtype="float32")},
        "split train is '[0-9a-f]{32}', and was": {"splits": moved_answer(scenes, "train")},
        "split val is '[0-9a-f]{32}', and was": {"splits": moved_answer(scenes, "val")},
        "shards of pictures is '[0-9a-f]{32}', and was": {"patch_embeddings": brighter},
        "shards of questions is '[0-9a-f]{32}', and was": {"states": longer},
    }
    before = files(stopped)
    for number, (message, change) in enumerate(changes.items()):
        other = other_cache(tmp_path / str(number), scenes, **change)
        with pytest.raises(CacheMismatchError, match=message + r".* Give the cache that it began"):
            go_on(other, stopped, GROUPED)
    assert files(stopped) == before
    without = other_cache(tmp_path / "x", scenes, splits={"val": scenes.splits["val"]})
    with pytest.raises(CacheError, match="no split 'train'"):
        go_on(without, stopped, GROUPED)


def test_a_cache_that_was_moved_or_extended_is_the_same(
    stopped: Path, scenes: Made, undisturbed: dict[str, Whole], tmp_path: Path
) -> None:
    shutil.copytree(scenes.directory, tmp_path / "moved")
    splits = {name: FeatureCache(scenes.directory).split(name) for name in ("train", "val")}
    before = fingerprint(FeatureCache(scenes.directory), splits)
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
    assert fingerprint(extended, {n: extended.split(n) for n in ("train", "val")}) == before
    assert fingerprint(extended, {n: extended.split(n) for n in ("train", "more")}) != before
    go_on(replace(scenes, directory=tmp_path / "moved"), stopped, GROUPED)
    whole = dict(undisturbed["grouped"][0])
    whole["run.json"] = {**whole["run.json"], "cache": str(tmp_path / "moved")}
    assert without_times(stopped) == whole


@pytest.mark.parametrize("name", ["config.json", "answers.json", "config.toml"])
def test_a_changed_file_of_the_run_is_refused(name: str, stopped: Path, scenes: Made) -> None:
    (stopped / name).write_bytes((stopped / name).read_bytes() + b"\n")
    with pytest.raises(RunError, match=rf"{name}: not the file that the training began with"):
        go_on(scenes, stopped, GROUPED)
    (stopped / name).unlink()
    with pytest.raises(RunError, match=rf"{name}: cannot be read"):
        go_on(scenes, stopped, GROUPED)


def with_machine(run: Path, **changes: Any) -> None:
    path = state_files(run).current
    tensors, record = sealed.read_sealed(path, "")
    record["began"]["machine"] |= changes
    path.write_bytes(sealed.seal(tensors, record))


def test_another_device_is_refused_and_other_rounding_is_said(
    stopped: Path, scenes: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    with_machine(stopped, device="cuda")
    with pytest.raises(
        RunError, match=r"began on cuda, and cpu is asked for.*Give --device cuda\."
    ):
        go_on(scenes, stopped, GROUPED)
    with_machine(stopped, device="cpu", torch="0.1", threads=torch.get_num_threads())
    capsys.readouterr()
    go_on(scenes, stopped, GROUPED)
    said = capsys.readouterr().err
    assert f"began with 0.1 as torch, goes on with {torch.__version__}; numbers may be" in said
    assert "as threads" not in said


def test_overwriting_removes_the_state_first(
    stopped: Path, scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a kill could leave it beside files of the new run."""
    (stopped / "state" / "state.next.safetensors").write_text("of a killed process")
    with monkeypatch.context() as patch:
        seen = Snapshots(stopped, patch).seen
        begin(scenes, stopped, PLAIN, overwrite=True)
    old, new = seen[0]["config.toml"], files(stopped)["config.toml"]
    states = [f for f in seen if "state/state.safetensors" in f and f["config.toml"] == old]
    assert states == seen[:1]
    assert "state/state.next.safetensors" not in seen[-1]
    assert new != old
    remove_state(stopped)  # twice does no harm


# --- the command ---------------------------------------------------------------------------------


def command(made: Made, run: Path, *words: object) -> list[str]:
    settings = ["--epochs", "2", "--batch-size", "24", "--accumulate", "2", "--width", "16"]
    where = ["--cache", str(made.directory), "--run", str(run)]
    return ["train-head", *where, *settings, "--min-answer-count", "1", *map(str, words)]


def resume_command(made: Made, run: Path, *words: object) -> Finished:
    return frozen_vqa("train-head", "--cache", made.directory, "--run", run, "--resume", *words)


@pytest.fixture(scope="module")
def commanded(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command leaves undisturbed."""
    run = tmp_path_factory.mktemp("command") / "run"
    assert frozen_vqa(*command(scenes, run)).code == 0
    return without_times(run)


CHILD = """
import sys, time
import cli, pipeline.train, pipeline.trainer
from pipeline.stopping import Stop
from pipeline.trainer import Trainer

noted = []

class Watched(Stop):
    def _note(self, number, frame):
        noted.append(number)
        super()._note(number, frame)

def pause(count):
    print("working", flush=True)
    for number in range(count):
        while len(noted) <= number:
            time.sleep(0.01)
        print("noted", flush=True)

update, predict = Trainer._update, pipeline.trainer.predict

def slow_update(self):
    if self.step == 4:
        pause({"step": 1, "twice": 2}.get(WHERE, 0))
    update(self)

def slow_predict(*args, **settings):
    found = predict(*args, **settings)
    if WHERE == "scoring":
        pause(99)
    return found

WHERE = sys.argv.pop(1)
pipeline.train.Stop = Watched
Trainer._update, pipeline.trainer.predict = slow_update, slow_predict
cli.main()
"""


def stopped_child(words: list[str], number: int, where: str) -> tuple[int, str]:
    """Run a command in a child that is stopped; return its exit code and what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, where, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "working\n"
        running.send_signal(number)
        if where == "twice":
            assert running.stdout.readline() == "noted\n"
            running.send_signal(number)
        return running.wait(timeout=60), running.stderr.read()


@pytest.mark.parametrize(
    ("number", "code", "where"),
    [
        (signal.SIGINT, 130, "step"),
        (signal.SIGTERM, 143, "step"),
        (signal.SIGTERM, 143, "scoring"),
        (signal.SIGINT, 130, "twice"),
    ],
)
def test_a_stopped_training_says_how_to_go_on(
    number: int,
    code: int,
    where: str,
    scenes: Made,
    commanded: dict[str, Any],
    tmp_path: Path,
) -> None:
    """After its step; while scoring at once; and at once if it is told twice."""
    run = tmp_path / "a run"
    words = command(scenes, run)
    found, said = stopped_child([*words, "--overwrite"], number, where)
    assert found == code
    assert "Traceback" not in said
    line = f"stopped; to go on: {shlex.join(['frozen-vqa', *words, '--resume'])}\n"
    assert said.endswith(line)
    assert not list(run.rglob("*.partial"))
    progress = recover_state(run).progress
    steps, batches, lines = {"step": (5, 4, 1), "scoring": (3, 6, 0), "twice": (3, 6, 1)}[where]
    assert (progress.step, progress.batch, len(progress.metrics)) == (steps, batches, lines)

    again = frozen_vqa(*shlex.split(line.partition("frozen-vqa ")[2]))
    assert again.code == 0
    assert f"{run}: going on after {lines} of 2 epochs, {steps} of 6 steps" in again.err
    assert without_times(run) == commanded


def test_a_child_that_was_killed(scenes: Made, commanded: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _ = stopped_child(command(scenes, run), signal.SIGKILL, "scoring")
    assert code == -signal.SIGKILL
    assert resume_command(scenes, run).code == 0  # with the run's own settings
    assert without_times(run) == commanded


def test_resuming_what_is_finished(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = frozen_vqa(*command(scenes, run, "--json")).json()
    before = files(run)
    again = resume_command(scenes, run, "--json")
    assert (again.code, again.json()) == (0, first)
    assert f"{run}: this training is finished; there is nothing to go on with" in again.err
    moved = run.rename(tmp_path / "moved")
    assert resume_command(scenes, moved, "--json").json() == {**first, "run": str(moved)}
    assert files(moved) == before


def test_resuming_what_ended_early(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Killed after its last state, it trains no further; finished, it is finished."""
    score_by_epoch([30.0, 20.0, 10.0], monkeypatch)
    run, config = tmp_path / "run", replace(GROUPED, batch_size=64, epochs=3, patience=1)
    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(pipeline.training, "finish_run", killed)
        begin(scenes, run, config)
    result = go_on(scenes, run, config)
    assert (result.epochs, result.best_epoch) == (2, 1)
    assert go_on(scenes, run, config) == result
    assert "this training is finished" in capsys.readouterr().err.splitlines()[-1]


def killed(*_: object) -> None:
    raise Killed


def test_resuming_what_never_began(scenes: Made, tmp_path: Path) -> None:
    for run in (tmp_path / "nowhere", tmp_path / "empty"):
        found = resume_command(scenes, run)
        said = "there is no training here to go on with (state/ is empty). Train without --resume."
        assert (found.code, found.err) == (1, f"error: {run}: {said}\n")
        assert not run.exists()
    run = tmp_path / "run"
    frozen_vqa(*command(scenes, run))
    (run / "run.json").unlink()
    found = resume_command(scenes, run)
    assert (found.code, found.err.endswith("without --resume, and with --overwrite.\n")) == (
        1,
        True,
    )


def test_the_command_refuses_other_settings(stopped: Path, scenes: Made, tmp_path: Path) -> None:
    found = resume_command(scenes, stopped, "--epochs", 5)
    assert found.code == 1
    assert "epochs was 2 when it began, and 5 is asked for, another schedule" in found.err
    assert resume_command(scenes, stopped, "--overwrite").code == 2
    file = tmp_path / "other.toml"
    file.write_text("width = 16\n")
    found = resume_command(scenes, stopped, "--config", file)
    assert "heads was 2 when it began, and 4 is asked for; " in found.err
    toml = stopped / "config.toml"
    toml.write_text(toml.read_text().replace("lr = 0.01", "lr = 0.02"))
    found = resume_command(scenes, stopped)
    assert "lr was 0.01 when it began, and 0.02 is asked for, another schedule" in found.err


def test_a_run_in_training_can_be_used(stopped: Path) -> None:
    assert load_run(stopped, CPU).config == GROUPED


# --- signals -------------------------------------------------------------------------------------


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Signals that reach whoever listened before."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def signalled(heard: list[int]) -> None:
    """A signal that comes where nothing may be left half done."""
    with Stop() as stop:
        stop.check()
        signal.raise_signal(signal.SIGTERM)
        heard.append(0)
        stop.check()


def test_a_signal_waits_for_a_check_and_is_then_passed_on(heard: list[int]) -> None:
    with pytest.raises(SystemExit) as caught:
        signalled(heard)
    assert caught.value.code == 143
    assert heard == [0, signal.SIGTERM]
    assert isinstance(caught.value.__context__, Stopped)


def signalled_anywhere(heard: list[int], *, before: bool) -> None:
    """A signal that comes, before or within, where nothing can be left half done."""
    with Stop() as stop:
        if before:
            signal.raise_signal(signal.SIGTERM)
            heard.append(0)
        with stop.anywhere():
            signal.raise_signal(signal.SIGTERM)
            heard.append(0)


@pytest.mark.parametrize("before", [False, True])
def test_a_signal_raises_at_once_where_it_may(before: bool, heard: list[int]) -> None:
    with pytest.raises(SystemExit):
        signalled_anywhere(heard, before=before)
    assert heard == [0, signal.SIGTERM][not before :]


def test_the_second_signal_does_not_wait(heard: list[int]) -> None:
    with pytest.raises(SystemExit), Stop():
        [signal.raise_signal(signal.SIGTERM) for _ in range(3)]
    assert heard == [signal.SIGTERM] * 3  # the second, the third, and the first passed on


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            stop.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_in_another_thread(scenes: Made, tmp_path: Path) -> None:
    done: list[TrainResult] = []
    work = threading.Thread(target=lambda: done.append(begin(scenes, tmp_path / "run", GROUPED)))
    work.start()
    work.join()
    assert done[0].epochs == 2


def test_a_reader_begins_in_the_midst_of_a_plan(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes then is what would have come; the rows are read no more than once."""
    from test_train import make_trainer

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
