"""A training whose files were damaged or moved ends as an undisturbed one, bit for bit."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozen_vqa.cache import CacheWriter, FeatureCache
from frozen_vqa.cache.format.shards import NewQuestions
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.runs.data import fingerprint_cache
from frozen_vqa.pipeline.runs.folder import state_files
from frozen_vqa.pipeline.runs.state import recover_state
from frozen_vqa.pipeline.train.loop import TrainingLoop
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
    GROUPED,
    begin,
    bits,
    files,
    flip,
    go_on,
    lay_out,
    without_times,
)

# Fixtures; the first is in force in every test.
kept_states, stopped = resuming.kept_states, resuming.stopped


@pytest.fixture(scope="module")
def undisturbed(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves to which nothing happens."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    begin(scenes, run, GROUPED)
    return without_times(run)


def test_a_disk_that_is_full_at_a_checkpoint(
    scenes: Made,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TrainingLoop, "save_is_due", True)
    real, run = os.fsync, tmp_path / "run"
    for calls in (20, 12, 5):
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
    assert without_times(run) == undisturbed


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
    undisturbed: dict[str, Any],
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
    assert without_times(stopped) == undisturbed


def test_metrics_are_cut_back_and_filled_up(
    stopped: Path, scenes: Made, undisturbed: dict[str, Any]
) -> None:
    for text in ("", '{"epoch": 1}\n{"epoch": 2}\n{"ep', None):
        run = stopped.with_name(f"run {text}".replace("\n", "")[:9])
        shutil.copytree(stopped, run)
        if text is None:
            (run / "metrics.jsonl").unlink()
        else:
            (run / "metrics.jsonl").write_text(text)
        go_on(scenes, run, GROUPED)
        assert without_times(run) == undisturbed


def test_a_cache_that_was_moved_or_extended_is_the_same(
    stopped: Path, scenes: Made, undisturbed: dict[str, Any], tmp_path: Path
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
    whole = dict(undisturbed)
    whole["run.json"] = {**whole["run.json"], "cache": str(tmp_path / "moved")}
    assert without_times(stopped) == whole
