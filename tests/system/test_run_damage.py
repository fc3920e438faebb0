"""Damaged files of a run: one line that names the file, or no harm at all.

Weights, states, settings and the answers of a run are in `test_run_refused.py`, `test_weights.py`
and `test_resume_damage.py`; caches in `tests/cache/`. Here is what came later: saved logits,
scores, the model card, environment.json, curves, tables, and a file of answers. The same on a full
disk is in `test_run_full_disk.py`.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import frozen_vqa.pipeline.train.loop
import frozen_vqa.pipeline.train.tensorboard
import frozen_vqa.pipeline.train.train
from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.vocabulary import load_vocabulary, read_vocabulary
from frozen_vqa.pipeline.commands.tables import FIRST_LINES, Row, write_table
from frozen_vqa.pipeline.config import read_settings
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.logits import load_logits, save_logits
from frozen_vqa.pipeline.runs.card import CARD, MARK, write_card
from frozen_vqa.pipeline.runs.environment import note_environment
from frozen_vqa.pipeline.runs.folder import ENVIRONMENT
from frozen_vqa.pipeline.runs.run import load_run, read_outcome
from frozen_vqa.pipeline.train.loop import TrainingLoop
from frozen_vqa.pipeline.train.tensorboard import EVENTS
from frozen_vqa.pipeline.train.train import train
from tests.support import finished_runs
from tests.support.caches import Made
from tests.support.finished_runs import ANSWERS, evaluated
from tests.support.heads import make_run
from tests.support.resuming import CPU, GROUPED, Killed, kill_before_step
from tests.support.summaries import Writer
from tests.support.waiting import within

rows, trained = finished_runs.rows, finished_runs.trained  # fixtures


def damaged(data: bytes, count: int = 15) -> Iterator[bytes]:
    """Emptied, cut short, and with one bit flipped, each at places all over."""
    yield b""
    for place in range(1, len(data), 1 + len(data) // count):
        yield data[:place]
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        yield bytes(flipped)


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
    evaluate(run, FeatureCache(scenes.directory), "val", keep_logits=True)
    for keep in (True, False):
        path.write_bytes(b"\0")
        evaluate(run, FeatureCache(scenes.directory), "val", keep_logits=keep)
        assert path.exists() == keep
    evaluate(run, FeatureCache(scenes.directory), "val", keep_logits=True)
    assert load_logits(path)[0].shape == (32, 2)


def test_damaged_scores_are_left_out_of_the_card(scenes: Made, trained: Path) -> None:
    """No harm: a row of the card is right or missing, till the split is evaluated again."""
    path = trained / "evaluation" / "val" / "scores.json"
    whole, data = (trained / CARD).read_text().splitlines(), path.read_bytes()
    (row,) = [line for line in whole if "| val (32 questions)" in line]
    without = [line for line in whole if line != row]
    found = read_outcome(trained)
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


@pytest.mark.parametrize("name", [CARD, ENVIRONMENT, "evaluation/val/scores.json"])
def test_a_pipe_in_place_of_a_file_holds_nothing_up(
    name: str, scenes: Made, trained: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with within(20):
        note_environment(run, CPU, {})
        evaluated(scenes, run, "test")
    assert (run / name).is_fifo() == (name != ENVIRONMENT)
    assert (run / CARD).is_fifo() or "(in training)" in (run / CARD).read_text()


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
    for module in (frozen_vqa.pipeline.train.tensorboard, frozen_vqa.pipeline.train.train):
        monkeypatch.setattr(module, "summary_writer", lambda: Writer)
    monkeypatch.setattr(TrainingLoop, "save_is_due", True)
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
    """No harm: nothing reads it. Without its first line it may be somebody else's, and stays."""
    write_table(tmp_path / name, rows)
    data = (tmp_path / name).read_bytes()
    mark = FIRST_LINES[(tmp_path / name).suffix].encode()
    for content in damaged(data, count=3):
        (tmp_path / name).write_bytes(content)
        ours = content.startswith(mark)
        with nullcontext() if ours else pytest.raises(ConfigError, match="did not write"):
            write_table(tmp_path / name, rows)
        assert (tmp_path / name).read_bytes() == (data if ours else content)


@pytest.mark.parametrize("text", ["red\nsky blue\n2\n", '["red",\n"sky blue",\n"2"]\n'])
def test_a_damaged_file_of_answers(text: str, tmp_path: Path) -> None:
    """An error that names the file, or other answers: it is the user's own and has no digest.

    Other answers are what the head is then trained on, shown and kept; `--resume` refuses them
    (`test_vocabulary_in_training.py`).
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
