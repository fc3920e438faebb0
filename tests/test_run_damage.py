"""Damaged files of a run, and a full disk while they are written: one line, or no harm at all.

Weights, states, settings and the answers of a run are in `test_runs.py`, `test_weights*.py` and
`test_resume*.py`; caches in `test_cache_*.py`. Here is what came later: saved logits, scores, the
model card, environment.json, curves, tables, and a file of answers.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from caches import Made
from command import frozen_vqa
from evaluations import make_rows
from heads import make_run
from resuming import CPU, GROUPED, Killed, kill_before_step
from summaries import Writer
from trainings import run_training

import pipeline.events
import pipeline.train
import pipeline.training
from benchmarks.torture_disk import FailingWrites
from cache import FeatureCache
from pipeline.answers import Vocabulary, load_vocabulary
from pipeline.answers_file import read_vocabulary
from pipeline.card import CARD, MARK, write_card
from pipeline.config import read_settings
from pipeline.environment import ENVIRONMENT, note_environment
from pipeline.errors import ConfigError, PipelineError, RunError
from pipeline.evaluate import evaluate
from pipeline.events import EVENTS, summary_writer
from pipeline.logits import load_logits, save_logits
from pipeline.runs import load_run, outcome
from pipeline.table_file import Row, write_table
from pipeline.train import train
from pipeline.weights import writing

ANSWERS = Vocabulary(("red", "blue"))


def damaged(data: bytes, count: int = 15) -> Iterator[bytes]:
    """Emptied, cut short, and with one bit flipped, each at places all over."""
    yield b""
    for place in range(1, len(data), 1 + len(data) // count):
        yield data[:place]
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        yield bytes(flipped)


@pytest.fixture
def rows() -> list[Row]:
    return make_rows()


@pytest.fixture(scope="module")
def trained(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was evaluated."""
    run = tmp_path_factory.mktemp("damage") / "run"
    run_training(scenes, run, epochs=1, fusion="concat")
    evaluated(scenes, run)
    return run


def refused(kind: type[Exception], path: Path, read: Callable[[Path], object]) -> str:
    """Return the one line that refuses a file, or "" if it is read."""
    try:
        read(path)
    except kind as error:
        said = str(error)
    else:
        return ""
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


def evaluated(scenes: Made, run: Path, split: str = "val", **how: Any) -> None:
    evaluate(load_run(run, CPU), FeatureCache(scenes.directory), split, **how)


# --- damage --------------------------------------------------------------------------------------


def test_logits_are_read_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error that names the file. `evaluate` itself reads none."""
    path, logits = tmp_path / "logits.safetensors", np.arange(6, dtype=np.float32).reshape(3, 2)
    save_logits(path, logits, question_ids=[1, "b", 3], answers=["red", "größe"])
    data = path.read_bytes()
    bad = 0
    for content in damaged(data):
        path.write_bytes(content)
        if said := refused(RunError, path, load_logits):
            bad += 1
            assert "evaluate --save-logits" in said
        else:  # a space of the header
            found, ids, answers = load_logits(path)
            assert found.tolist() == logits.tolist()
            assert (ids, answers) == ([1, "b", 3], ["red", "größe"])
    assert bad > 25
    path.unlink()
    with pytest.raises(RunError, match=r"logits\.safetensors: cannot be read \(No such file"):
        load_logits(path)


def test_damaged_logits_do_not_disturb_an_evaluation(scenes: Made, tmp_path: Path) -> None:
    """No harm: they are replaced, or removed."""
    make_run(scenes, tmp_path / "run", vocabulary=ANSWERS)
    run = load_run(tmp_path / "run", CPU)
    path = tmp_path / "run/evaluation/val/logits.safetensors"
    for keep in (True, False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")
        evaluate(run, FeatureCache(scenes.directory), "val", keep_logits=keep)
        assert path.exists() == keep
    evaluate(run, FeatureCache(scenes.directory), "val", keep_logits=True)
    assert load_logits(path)[0].shape == (32, 2)


def test_damaged_scores_are_left_out_of_the_card(scenes: Made, trained: Path) -> None:
    """No harm: a row of the card is right or missing, till the split is evaluated again."""
    path = trained / "evaluation" / "val" / "scores.json"
    whole, data = (trained / CARD).read_text().splitlines(), path.read_bytes()
    (row,) = [line for line in whole if line.startswith("| val (32 questions)")]
    without = [line for line in whole if line != row]
    found = outcome(trained)
    assert found is not None
    left_out = 0
    for content in damaged(data):
        path.write_bytes(content)
        write_card(trained, found)
        now = (trained / CARD).read_text().splitlines()
        assert now in (whole, without)
        left_out += now == without
    assert left_out > 25
    evaluated(scenes, trained)
    assert (path.read_bytes(), (trained / CARD).read_text().splitlines()) == (data, whole)


def test_a_damaged_card_is_written_anew(scenes: Made, trained: Path) -> None:
    """No harm: nothing reads it. Without its mark it is left alone, as a page of someone else."""
    path = trained / CARD
    data = path.read_bytes()
    for content in damaged(data, count=5):
        path.write_bytes(content)
        evaluated(scenes, trained, "test")
        ours = MARK.encode() in content or not content
        assert path.read_bytes() == (data if ours else content)
    path.write_bytes(data)


def test_a_damaged_environment_is_written_anew(tmp_path: Path) -> None:
    """No harm: nothing reads it but people; what can still be read of it stays."""
    path = tmp_path / ENVIRONMENT
    note_environment(tmp_path, CPU, {"split": "größe"})
    data = path.read_bytes()
    (whole,) = json.loads(data)
    for content in (*damaged(data), b"[" * 100_000):
        path.write_bytes(content)
        note_environment(tmp_path, CPU, {"split": "größe"})
        found = json.loads(path.read_bytes())
        assert found[-1] == whole
        assert len(found) in (1, 2)


def test_damaged_curves_are_not_read(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No harm: a training that goes on begins a file of its own, and touches no other."""
    Writer.made = []
    for module in (pipeline.events, pipeline.train):
        monkeypatch.setattr(module, "summary_writer", lambda: Writer)
    monkeypatch.setattr(pipeline.training, "CHECKPOINT_SECONDS", 0.0)
    run = tmp_path / "run"
    how: dict[str, Any] = {"config": GROUPED, "device": CPU, "tensorboard": True}
    with monkeypatch.context() as patch, suppress(Killed):
        kill_before_step(3, patch)
        train(scenes.directory, run, **how)
    (run / EVENTS).mkdir()
    for i, content in enumerate(damaged(bytes(range(256)), count=3)):
        (run / EVENTS / f"events.out.tfevents.{i}").write_bytes(content)
    before = {path: path.read_bytes() for path in (run / EVENTS).iterdir()}
    train(scenes.directory, run, resume=True, **how)
    assert {path: path.read_bytes() for path in (run / EVENTS).iterdir()} == before
    assert [writer.purge_step for writer in Writer.made] == [None, 4]


@pytest.mark.parametrize("name", ["t.md", "t.tex"])
def test_a_damaged_table_is_replaced(name: str, rows: list[Row], tmp_path: Path) -> None:
    """No harm: nothing reads it."""
    write_table(tmp_path / name, rows)
    data = (tmp_path / name).read_bytes()
    for content in damaged(data, count=3):
        (tmp_path / name).write_bytes(content)
        write_table(tmp_path / name, rows)
        assert (tmp_path / name).read_bytes() == data


@pytest.mark.parametrize("text", ["red\nsky blue\n2\n", '["red",\n"sky blue",\n"2"]\n'])
def test_a_damaged_file_of_answers(text: str, tmp_path: Path) -> None:
    """An error that names the file, or other answers: it is the user's own and has no digest.

    Other answers are what the head is then trained on, shown and kept; `--resume` refuses them
    (`test_answers_file.py`).
    """
    path, read, bad = tmp_path / "answers", 0, 0
    for content in damaged(text.encode()):
        path.write_bytes(content)
        if refused(ConfigError, path, read_vocabulary):
            bad += 1
            continue
        read += 1
        listed = content.strip().startswith(b"[")
        lines = [line.strip() for line in content.decode().splitlines()]
        found = list(read_vocabulary(path).answers)
        assert found == (json.loads(content) if listed else lines)
    assert read > 2
    assert bad > 1


def test_brackets_that_nest_too_deeply(scenes: Made, tmp_path: Path) -> None:
    """A run may come from elsewhere."""
    run, deep = tmp_path / "run", "[" * 100_000
    make_run(scenes, run, vocabulary=ANSWERS)
    (run / "config.json").write_text(deep)
    with pytest.raises(RunError, match=r"config\.json: cannot be read"):
        load_run(run, CPU)
    (run / "answers.json").write_text(deep)
    with pytest.raises(RunError, match=r"answers\.json: not a readable answer vocabulary"):
        load_vocabulary(run / "answers.json")
    (run / "config.toml").write_text(f"lr = {deep}")
    with pytest.raises(ConfigError, match=r"config\.toml: not a TOML file"):
        read_settings(run / "config.toml")


# --- a full disk ---------------------------------------------------------------------------------


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
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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
        path.write_bytes(b"[1]")

    def work() -> None:
        if what == "logits":
            save_logits(path, np.ones((2, 1), np.float32), question_ids=[1, 2], answers=["red"])
        elif what == "environment":
            note_environment(path.parent, CPU, {})
        elif what == "table":
            write_table(path, rows)
        else:
            with writing(path.parent):
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
    assert frozen_vqa(*how).code == 0
    whole = contents(trained)
    assert len(whole.keys() - before.keys()) == 2
    seen = set()
    for n in range(1, 100, 3):  # a file takes four writes, syncs and renames
        with full_disk(n, monkeypatch):
            found = frozen_vqa(*how)
        now = contents(trained)
        assert now == whole  # it says the same as the whole one: old and new are equal
        if found.code == 0:
            break
        assert found.code == 1
        assert found.err.count("error: ") == found.err.count("Traceback") + 1 == 1
        seen.add(found.err.splitlines()[-1].split(": cannot be written (No space left")[0])
    folder = trained / "evaluation" / "val"
    files = [folder / name for name in ("results.json", "scores.json", "logits.safetensors")]
    assert seen == {f"error: {path}" for path in (*files, trained, table)}
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
        found = frozen_vqa(*how)
    assert found.code == 1
    assert found.err.splitlines()[-1].startswith(f"error: {run}: cannot be written (No space left")
    assert not (run / name).exists()
    assert not list(run.rglob("*.partial"))
    again = "--resume" if (run / "state").exists() else "--overwrite"
    done = frozen_vqa(*how, again)
    assert done.code == 0, done.err
    assert load_run(run, CPU)


def test_curves_on_a_full_disk(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training ends with one line and can go on."""

    class Full(Writer):
        def add_scalar(self, tag: str, value: float, step: int) -> None:
            if step > 3:
                raise OSError(28, os.strerror(28))
            super().add_scalar(tag, value, step)

    Writer.made = []
    for module in (pipeline.events, pipeline.train):
        monkeypatch.setattr(module, "summary_writer", lambda: Full)
    run = tmp_path / "run"
    how: dict[str, Any] = {"config": GROUPED, "device": CPU}
    with pytest.raises(RunError, match=r"run: cannot be written \(No space left on device\)"):
        train(scenes.directory, run, tensorboard=True, **how)
    train(scenes.directory, run, resume=True, **how)
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
