"""One writer at a time in a run: whoever comes second is refused, and changes nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import frozen_vqa.pipeline.runs.folder
from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.disk.lock import sole_writer
from frozen_vqa.pipeline.errors import RunBusyError, RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.folder import hold_run
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.system.saver import Saver
from frozen_vqa.pipeline.train.sweep import sweep
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support import locks
from tests.support.caches import Made
from tests.support.heads import make_run
from tests.support.locks import child
from tests.support.resuming import CPU, GROUPED, begin, files, go_on, kill_before_step

no_flock, mode = locks.no_flock, locks.mode  # fixtures; the second asks for the first
Second = Callable[[Made, Path], Any]

SECONDS: dict[str, Second] = {
    "training": lambda made, run: begin(made, run, GROUPED),
    "--overwrite": lambda made, run: begin(made, run, GROUPED, overwrite=True),
    "--resume": lambda made, run: go_on(made, run, GROUPED),
    "sweep": lambda made, run: sweep(
        made.directory, run.parent, heads={run.name: GROUPED}, device=CPU, overwrite=True
    ),
    "sweep --resume": lambda made, run: sweep(
        made.directory, run.parent, heads={run.name: GROUPED}, device=CPU, resume=True
    ),
    "evaluate": lambda made, run: evaluate(load_run(run, CPU), FeatureCache(made.directory), "val"),
}


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_vqa.pipeline.runs.folder, "WAIT_SECONDS", 0.0)


def every_second(made: Made, run: Path) -> Iterator[str]:
    for name, second in SECONDS.items():
        before = files(run)
        error = RunError if name == "training" else RunBusyError
        with pytest.raises(error) as caught:
            second(made, run)
        assert files(run) == before, name
        yield str(caught.value)


def test_nobody_writes_into_a_run_that_another_process_holds(
    scenes: Made, mode: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    make_run(scenes, run)
    with child(run, mode) as first:
        assert first.ask() == "held"
        for message in every_second(scenes, run):
            assert f"process {first.pid} on " in message or "--overwrite to replace" in message
            assert "--cache" not in message
        first.die()
        begin(scenes, run, GROUPED, overwrite=True)
        assert evaluate(load_run(run, CPU), FeatureCache(scenes.directory), "val").accuracy


def test_nobody_writes_into_a_run_in_mid_training(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real, said = tmp_path / "run", Trainer.learn, []

    def learn(self: Trainer, *batch: Any) -> bool:
        if (run / "metrics.jsonl").exists() and not said:  # a save writes it last
            said.extend(every_second(scenes, run))
        return real(self, *batch)

    begin(scenes, tmp_path / "alone", GROUPED)
    monkeypatch.setattr(Saver, "_copy", lambda *_: None)  # a save ends before the next step
    monkeypatch.setattr(Trainer, "learn", learn)
    begin(scenes, run, GROUPED)
    assert len(said) == len(SECONDS)
    name = "model.safetensors"
    assert (run / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_the_lock_of_a_dead_training_blocks_nobody(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, suppress(BaseException):
        kill_before_step(3, patch)
        begin(scenes, run, GROUPED)
    go_on(scenes, run, GROUPED)
    with ExitStack() as held:
        hold_run(run, held).require()


def test_a_lock_that_was_lost_ends_the_training(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = tmp_path / "run", Trainer.learn

    def learn(self: Trainer, *batch: Any) -> bool:
        (run / ".lock").unlink(missing_ok=True)
        return real(self, *batch)

    monkeypatch.setattr(Trainer, "learn", learn)
    with pytest.raises(Exception, match=r"no longer holds the writers' lock"):
        begin(scenes, run, GROUPED)


def test_evaluations_wait_for_each_other(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(scenes, tmp_path / "run")
    run, tries = load_run(tmp_path / "run", CPU), []
    monkeypatch.setattr(frozen_vqa.pipeline.runs.folder, "WAIT_SECONDS", 20.0)
    with ExitStack() as first:
        first.enter_context(sole_writer(run.path, what="run"))
        monkeypatch.setattr(
            frozen_vqa.pipeline.runs.folder.time,
            "sleep",
            lambda _: tries.append(1) or len(tries) < 3 or first.close(),
        )
        assert evaluate(run, FeatureCache(scenes.directory), "val").accuracy
    assert len(tries) == 3


def test_answers_of_weights_that_are_gone_are_not_written(scenes: Made, tmp_path: Path) -> None:
    make_run(scenes, tmp_path / "run")
    run = load_run(tmp_path / "run", CPU)
    begin(scenes, run.path, GROUPED, overwrite=True)
    before = files(run.path)
    with pytest.raises(RunError, match="another process has changed the weights since"):
        evaluate(run, FeatureCache(scenes.directory), "val")
    assert files(run.path) == before
