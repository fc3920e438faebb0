"""A kill or a loss of power at any write: the training goes on, and ends the same."""

import json
import os
import random
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

import frozen_vqa.pipeline.train.loop
from frozen_vqa.pipeline.config import Keep, TrainConfig
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.folder import CURRENT, PREVIOUS
from frozen_vqa.pipeline.runs.state import (
    TrainState,
    has_state,
    recover_state,
    remove_state,
    save_state,
)
from frozen_vqa.pipeline.runs.weights import read_weights
from frozen_vqa.pipeline.system import saver
from frozen_vqa.pipeline.train.resume import save_best
from tests.support import resuming
from tests.support.caches import Made
from tests.support.disk_calls import watch
from tests.support.power import Names, left_behind, recorded
from tests.support.resuming import (
    GROUPED,
    PLAIN,
    Killed,
    begin,
    files,
    flip,
    go_on,
    lay_out,
    score_by_epoch,
    without_times,
)

SLOW = pytest.mark.slow
ACCURACIES = {
    "rising": [10.0, 20.0, 30.0],
    "falling": [30.0, 20.0, 10.0],
    "between": [10.0, 30.0, 20.0],
}

# Fixtures; the first is in force in every test.
kept_states, stopped = resuming.kept_states, resuming.stopped


class Snapshots:
    """What a kill would leave of a folder: before each call that changes it, and in mid-write."""

    def __init__(self, run: Path, patch: pytest.MonkeyPatch) -> None:
        self.run, self.seen = run, [files(run)] if run.exists() else []
        self.main, self.busy = threading.get_ident(), False
        self.turns = threading.RLock()
        watch(self.look, patch)

    def look(self) -> None:
        """Keep the folder as it is, if it is new; looking at it makes watched calls itself."""
        saves = threading.current_thread().name.startswith(saver.THREAD)
        if not (saves or threading.get_ident() == self.main):
            return
        with self.turns:
            if self.busy or not self.run.exists():
                return
            self.busy = True
            now = files(self.run)
            if now not in self.seen:
                self.seen.append(now)
            self.busy = False


def end_well(made: Made, run: Path, config: TrainConfig) -> bool:
    """Go on with what is left, or train anew where nothing had begun; say which."""
    if has_state(run):
        go_on(made, run, config)
        return True
    with pytest.raises(RunError, match=r"no training here to resume .*Train without --resume"):
        go_on(made, run, config)
    begin(made, run, config, overwrite=True)
    return False


@pytest.mark.parametrize("curve", ACCURACIES)
@pytest.mark.parametrize("keep", get_args(Keep))
def test_every_state_that_is_saved_is_one_to_go_on_from(
    keep: Keep,
    curve: str,
    scenes: Made,
    tmp_path: Path,
    kept_states: list[TrainState],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score_by_epoch(ACCURACIES[curve], monkeypatch)
    begin(scenes, tmp_path / "run", replace(GROUPED, batch_size=64, epochs=3, keep=keep))
    assert len(kept_states) >= 3
    for state in kept_states:
        save_state(tmp_path / "copy", state)
        assert recover_state(tmp_path / "copy").progress == state.progress


@pytest.mark.stops
@pytest.mark.parametrize(
    ("curve", "keep", "step"),
    [
        ("rising", "best", 3),
        *(pytest.param(one, "best", 1, marks=SLOW) for one in ACCURACIES),
        pytest.param("falling", "last", 1, marks=SLOW),
    ],
)
def test_killed_between_any_two_writes(
    curve: str, keep: Keep, step: int, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once more after a second kill: what the first resume has mended stays mended."""
    score_by_epoch(ACCURACIES[curve], monkeypatch)
    config = replace(GROUPED, batch_size=64, epochs=3, keep=keep)
    with monkeypatch.context() as patch:
        seen = Snapshots(tmp_path / "whole", patch).seen
        begin(scenes, tmp_path / "whole", config)
    whole = without_times(tmp_path / "whole")
    best = 3 if keep == "last" else 1 + ACCURACIES[curve].index(30)
    assert read_weights(tmp_path / "whole" / CURRENT).accuracy == ACCURACIES[curve][best - 1]
    previous = tmp_path / "whole" / PREVIOUS
    assert not previous.exists() if best == 1 else read_weights(previous).epoch == best - 1
    assert len(seen) > 40
    resumed = 0
    for number, found in list(enumerate(seen))[::step]:
        run = tmp_path / str(number)
        lay_out(found, run)
        if "run.json" in found and "best_accuracy" in json.loads(found["run.json"]):
            result = go_on(scenes, run, config)
            assert (result.run, result.best_epoch) == (str(run), best)
        else:
            resumed += end_well(scenes, run, config)
        assert without_times(run) == whole, number
    assert resumed > 30 // step


@pytest.mark.slow
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
        patch.setattr(frozen_vqa.pipeline.train.loop, "save_best", killed)
        begin(scenes, tmp_path / "run", GROUPED)
    assert read_weights(tmp_path / "run" / CURRENT).epoch == 1
    flip(tmp_path / "run" / CURRENT, -9)
    go_on(scenes, tmp_path / "run", GROUPED)
    assert read_weights(tmp_path / "run" / CURRENT).epoch == 2
    assert not (tmp_path / "run" / PREVIOUS).exists()


@pytest.mark.stops
@pytest.mark.parametrize(
    "keep", ["safe", *(pytest.param(one, marks=SLOW) for one in ("all", "some"))]
)
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
