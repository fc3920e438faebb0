"""A disk that is full while files of a run are written: one line, and no file that is not whole."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import frozen_vqa.pipeline.train.tensorboard
import frozen_vqa.pipeline.train.train
from benchmarks.torture.disk import FailingWrites
from frozen_vqa.pipeline.commands.tables import FIRST_LINES, Row, write_table
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.evaluate.logits import save_logits
from frozen_vqa.pipeline.runs.card import CARD
from frozen_vqa.pipeline.runs.environment import note_environment
from frozen_vqa.pipeline.runs.folder import ENVIRONMENT, explain_run_write_errors
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.train.tensorboard import summary_writer
from frozen_vqa.pipeline.train.train import train
from tests.support import finished_runs
from tests.support.caches import Made
from tests.support.command import run_command
from tests.support.finished_runs import ANSWERS
from tests.support.resuming import CPU, GROUPED
from tests.support.summaries import Writer

rows, trained = finished_runs.rows, finished_runs.trained  # fixtures


@contextmanager
def full_disk(n: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingWrites]:
    """Let the n-th write, sync or rename of the block find no room."""
    disk = FailingWrites(n)
    with monkeypatch.context() as patch:
        for name in ("write", "fsync", "replace"):
            patch.setattr(os, name, getattr(os, name))  # so that it is put back
        disk.install()
        yield disk


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def at_every_write(
    folder: Path, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Do something on a disk that is full at each write in turn; yield what is said each time.

    Whatever was there stays whole or is replaced by what is whole, and nothing is left beside it.
    """
    old = contents(folder)
    work()
    new = contents(folder)
    n = 0
    while True:
        n += 1
        for name in contents(folder):
            (folder / name).unlink()
        for name, data in old.items():
            (folder / name).write_bytes(data)
        with full_disk(n, monkeypatch) as disk:
            try:
                work()
            except PipelineError as error:
                said = str(error)
            else:
                assert disk.left > 0  # it has come to its end
                assert n > 1
                return
        now = contents(folder)
        assert now.keys() <= old.keys() | new.keys()
        assert all(data in (old.get(name), new.get(name)) for name, data in now.items())
        assert all(name in now for name in old.keys() & new.keys())
        assert "\n" not in said
        assert "cannot be written (No space left on device)" in said
        yield said


@pytest.mark.parametrize("there", [True, False], ids=["old file", "none"])
@pytest.mark.parametrize("what", ["logits", "environment", "table", "answers"])
def test_a_full_disk(
    what: str,
    there: bool,
    tmp_path: Path,
    rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {"logits": "l.safetensors", "environment": ENVIRONMENT, "table": "t.md", "answers": "a"}
    path = tmp_path / "run" / names[what]
    path.parent.mkdir()
    if there:
        path.write_bytes(FIRST_LINES[".md"].encode() if what == "table" else b"[1]")

    def work() -> None:
        if what == "logits":
            save_logits(path, np.ones((2, 1), np.float32), question_ids=[1, 2], answers=["red"])
        elif what == "environment":
            note_environment(path.parent, CPU, {})
        elif what == "table":
            write_table(path, rows)
        else:
            with explain_run_write_errors(path.parent):
                ANSWERS.save(path)

    said = list(at_every_write(tmp_path, work, monkeypatch))
    assert len(said) == 4  # write, sync, rename, sync of the folder
    assert all(line.startswith(str(tmp_path / "run")) for line in said)


def test_an_evaluation_on_a_full_disk(
    scenes: Made, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, logits, scores, card and table; then it can be done again."""
    table = trained / "table.md"
    how = ("evaluate", "--run", trained, "--save-logits", "--table", table)
    before = contents(trained)
    assert run_command(*how).code == 0
    whole = contents(trained)
    assert len(whole.keys() - before.keys()) == 2
    seen = set()
    for n in range(1, 100, 3):  # a file takes four writes, syncs and renames
        with full_disk(n, monkeypatch):
            found = run_command(*how)
        now = contents(trained)
        assert now == whole  # it says the same as the whole one: old and new are equal
        if found.code == 0:
            break
        assert found.code in (1, 3)
        kind = "error: " if found.code == 1 else "warning: "
        said = [line for line in found.err.splitlines() if line.startswith(kind)]
        assert said
        assert "Traceback" not in found.err
        seen |= {line.split(": cannot be written (No space left")[0] for line in said}
    folder = trained / "evaluation" / "val"
    files = [folder / name for name in ("results.json", "scores.json", "logits.safetensors")]
    assert seen >= {f"error: {path}" for path in (*files[:2], trained)}
    assert seen >= {f"warning: {path}" for path in (files[2], table)}
    table.unlink()
    (folder / "logits.safetensors").unlink()


@pytest.mark.parametrize("name", [ENVIRONMENT, CARD, "run.json", "answers.json"])
def test_a_training_on_a_full_disk(
    name: str, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full when this file is written: one line, and no file that is not whole."""
    run, real = tmp_path / "run", os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == name:
            raise OSError(28, os.strerror(28))
        real(source, target)

    how = ("train-head", "--cache", scenes.directory, "--run", run, "--epochs", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        found = run_command(*how)
    assert found.code == 1
    assert found.err.splitlines()[-1].startswith(f"error: {run}: cannot be written (No space left")
    assert not (run / name).exists()
    assert not list(run.rglob("*.partial"))
    again = "--resume" if (run / "state").exists() else "--overwrite"
    done = run_command(*how, again)
    assert done.code == 0, done.err
    assert load_run(run, CPU)


def test_curves_on_a_full_disk(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on without them, and says so."""

    class Full(Writer):
        def add_scalar(self, tag: str, value: float, step: int) -> None:
            if step > 3:
                raise OSError(28, os.strerror(28))
            super().add_scalar(tag, value, step)

    Writer.made = []
    for module in (frozen_vqa.pipeline.train.tensorboard, frozen_vqa.pipeline.train.train):
        monkeypatch.setattr(module, "summary_writer", lambda: Full)
    run = tmp_path / "run"
    how: dict[str, Any] = {"config": GROUPED, "device": CPU}
    result = train(scenes.directory, run, tensorboard=True, **how)
    assert "run: cannot be written (No space left on device)" in result.not_written[0]
    train(scenes.directory, tmp_path / "straight", **how)
    one, two = (path / "model.safetensors" for path in (run, tmp_path / "straight"))
    assert one.read_bytes() == two.read_bytes()


def test_a_thread_of_tensorboard_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its next call raises what its thread could not write; any other thread's error is shown."""

    class Thread(threading.Thread):
        error: Exception

        def run(self) -> None:
            raise self.error

    shown: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    assert summary_writer() is summary_writer() is Writer
    assert threading.excepthook.args == (shown.append,)  # type: ignore[attr-defined]  # not twice
    for place, error in (
        ("tensorboard.summary", OSError(28, "full")),
        ("tensorboard.summary", ValueError()),
        ("tensorboards", OSError(28, "full")),
    ):
        Thread.__module__ = place
        Thread.error = error
        thread = Thread()
        thread.start()
        thread.join()
    assert [type(one.exc_value) for one in shown] == [ValueError, OSError]
