"""The command that goes on, and children of it that were stopped or killed."""

import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.runs.state import recover_state
from tests.support import resuming
from tests.support.caches import Made, make_cache
from tests.support.command import Finished, run_command
from tests.support.repository import ROOT
from tests.support.resuming import files, without_times

# Fixtures; the first is in force in every test.
kept_states, stopped = resuming.kept_states, resuming.stopped


def command(made: Made, run: Path, *words: object) -> list[str]:
    settings = ["--epochs", "2", "--batch-size", "24", "--accumulate", "2", "--width", "16"]
    where = ["--cache", str(made.directory), "--run", str(run)]
    return [
        "train-head",
        *where,
        *settings,
        "--min-answer-count",
        "1",
        "--no-report",
        *map(str, words),
    ]


def resume_command(run: Path, *words: object) -> Finished:
    """Continue as far as the run itself knows how."""
    return run_command("train-head", "--run", run, "--resume", "--no-report", *words)


@pytest.fixture(scope="module")
def commanded(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command leaves undisturbed."""
    run = tmp_path_factory.mktemp("command") / "run"
    assert run_command(*command(scenes, run)).code == 0
    return without_times(run)


CHILD = """
import sys, time
import frozen_vqa.pipeline.train.train
import frozen_vqa.pipeline.train.trainer
from frozen_vqa import cli
from frozen_vqa.pipeline.system.signals import Stop
from frozen_vqa.pipeline.train.trainer import Trainer

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

update, predict = Trainer._update, frozen_vqa.pipeline.train.trainer.predict

def slow_update(self):
    if self.counters.step == 4:
        pause({"step": 1, "twice": 2}.get(WHERE, 0))
    update(self)

def slow_predict(*args, **settings):
    found = predict(*args, **settings)
    if WHERE == "scoring":
        pause(99)
    return found

WHERE = sys.argv.pop(1)
frozen_vqa.pipeline.train.train.Stop = Watched
Trainer._update, frozen_vqa.pipeline.train.trainer.predict = slow_update, slow_predict
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


@pytest.mark.stops
@pytest.mark.parametrize(
    ("number", "code", "where"),
    [
        (signal.SIGINT, 130, "step"),
        pytest.param(signal.SIGTERM, 143, "step", marks=pytest.mark.slow),
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
    state = recover_state(run)
    steps, batches, lines = {"step": (5, 4, 1), "scoring": (3, 6, 0), "twice": (3, 6, 1)}[where]
    assert (state.counters.step, state.counters.batch, len(state.progress.metrics)) == (
        steps,
        batches,
        lines,
    )

    again = run_command(*shlex.split(line.partition("frozen-vqa ")[2]))
    assert again.code == 0
    assert f"{run}: continuing after {lines} of 2 epochs, {steps} of 6 steps" in again.err
    assert without_times(run) == commanded


@pytest.mark.stops
def test_a_child_that_was_killed(scenes: Made, commanded: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _ = stopped_child(command(scenes, run), signal.SIGKILL, "scoring")
    assert code == -signal.SIGKILL
    assert resume_command(run).code == 0  # with the run's own settings
    assert without_times(run) == commanded


def test_resuming_what_is_finished(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = run_command(*command(scenes, run, "--json")).json()
    before = files(run)
    again = resume_command(run, "--json")
    assert (again.code, again.json()) == (0, first)
    assert f"{run}: this training is finished; nothing is left to train" in again.err
    moved = run.rename(tmp_path / "moved")
    assert resume_command(moved, "--json").json() == {**first, "run": str(moved)}
    assert files(moved) == before


def test_resuming_what_never_began(scenes: Made, tmp_path: Path) -> None:
    for run in (tmp_path / "nowhere", tmp_path / "empty"):
        found = resume_command(run)
        said = "there is no training here to resume (state/ is empty). Train without --resume."
        assert (found.code, found.err) == (1, f"error: {run}: {said}\n")
        assert not run.exists()
    run = tmp_path / "run"
    run_command(*command(scenes, run))
    (run / "run.json").unlink()
    found = resume_command(run)
    assert (found.code, found.err.endswith("without --resume, and with --overwrite.\n")) == (
        1,
        True,
    )


def test_a_cache_that_has_moved_is_asked_for(scenes: Made, tmp_path: Path) -> None:
    moved, gone, run = tmp_path / "moved", tmp_path / "cache", tmp_path / "run"
    shutil.copytree(scenes.directory, gone)
    first = run_command(*command(scenes, run, "--cache", gone, "--json")).json()
    gone.rename(moved)
    found = resume_command(run)
    assert found.code == 1
    assert f"{gone}, which is not there now. If it has moved, give its new folder" in found.err
    assert resume_command(run, "--cache", moved, "--json").json() == first


def test_a_sweep_knows_its_cache(scenes: Made, tmp_path: Path) -> None:
    file, run = tmp_path / "sweep.toml", tmp_path / "run"
    file.write_text('[[head]]\nname = "a"\n[[head]]\nname = "b"\nseed = 1\n')
    words = ("--sweep", file, "--epochs", 1, "--width", 16, "--min-answer-count", 1)
    said = "there is no training here to resume"
    assert said in resume_command(run, *words).err
    assert run_command("train-head", scenes.directory, "--run", run, *words).code == 0
    for name in ("a", "b"):
        assert resume_command(run, *words).code == 0
        shutil.rmtree(run / name)  # as one that a kill came before


def test_the_same_command_goes_on_where_a_part_was_held_out(scenes: Made, tmp_path: Path) -> None:
    """By itself, because the cache has nothing to validate with; for one head and for a sweep."""
    cache, rows = tmp_path / "cache", scenes.splits["train"]
    make_cache(cache, {"train": rows}, patch_embeddings=scenes.patch_embeddings)
    file = tmp_path / "head.toml"
    file.write_text("epochs = 1\nwidth = 16\nheads = 2\nmin_answer_count = 1\n")
    for option in ("--config", "--sweep"):
        words = ("train-head", cache, "--run", tmp_path / option, option, file, "--no-report")
        assert run_command(*words).code == 0
        again = run_command(*words, "--resume")
        assert (again.code, "this training is finished" in again.err) == (0, True)


def test_the_command_refuses_other_settings(stopped: Path, tmp_path: Path) -> None:
    found = resume_command(stopped, "--epochs", 5)
    assert found.code == 1
    assert "epochs was 2 when it began, and 5 is asked for, another schedule" in found.err
    assert resume_command(stopped, "--overwrite").code == 2
    file = tmp_path / "other.toml"
    file.write_text("width = 16\n")
    found = resume_command(stopped, "--config", file)
    assert "heads was 2 when it began, and 4 is asked for; " in found.err
    toml = stopped / "config.toml"
    toml.write_text(toml.read_text().replace("lr = 0.01", "lr = 0.02"))
    found = resume_command(stopped)
    assert "lr was 0.01 when it began, and 0.02 is asked for, another schedule" in found.err
