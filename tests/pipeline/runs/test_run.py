"""A run loads as it was saved; what is started in its place keeps nothing of it."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.disk.folders import MARK
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.model.config import FUSIONS, Fusion, ModelConfig
from frozen_vqa.pipeline.runs.description import Outcome
from frozen_vqa.pipeline.runs.run import (
    MEANING,
    features_of,
    finish_run,
    load_run,
    read_digests,
    start_run,
)
from tests.support import run_folders
from tests.support.caches import GRID, TEXT_DIM, VISION_DIM, Made, Row, make_cache, make_spec
from tests.support.heads import VOCABULARY, make_run, seal
from tests.support.run_folders import edit_json

made, run = run_folders.made, run_folders.run  # fixtures
CPU = torch.device("cpu")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_loaded_head_gives_the_same_logits(fusion: Fusion, made: Made, tmp_path: Path) -> None:
    model = make_run(made, tmp_path / "run", fusion=fusion).eval()
    torch.manual_seed(8)
    patches = torch.randn(2, GRID[0] * GRID[1], VISION_DIM)
    states = torch.randn(2, 3, 4, TEXT_DIM)
    mask = torch.arange(4) < torch.tensor([[1, 4, 0], [2, 3, 1]])[..., None]

    run = load_run(tmp_path / "run", CPU)

    assert torch.equal(run.model(patches, states, mask), model(patches, states, mask))
    assert not run.model.training
    assert run.model.config == model.config


def test_what_else_is_loaded(run: Path, made: Made) -> None:
    loaded = load_run(run, CPU)
    assert loaded.path == run
    assert loaded.vocabulary == VOCABULARY
    assert loaded.config == TrainConfig(width=8, heads=2, layers=2, epochs=3, seed=7)
    assert loaded.cache == str(made.directory)
    spec = make_spec()
    assert loaded.encoders == {"vision": spec.vision, "text": spec.text}


def test_a_run_knows_its_cache_from_anywhere(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was named by a relative path, in another working directory."""
    shutil.copytree(made.directory, tmp_path / "features")
    monkeypatch.chdir(tmp_path)
    make_run(Made(Path("features"), made.patch_embeddings, made.states, made.splits), Path("run"))
    monkeypatch.chdir("run")
    assert load_run(tmp_path / "run", CPU).cache == str(tmp_path / "features")


def test_the_outcome_is_sealed(run: Path, made: Made) -> None:
    names = Outcome.__annotations__.keys() - {"cache", "dataset", "splits", "held_out"}
    outcome: dict[str, Any] = dict.fromkeys(names, 1)
    outcome |= {"best_accuracy": 12.5, "fusion": "ö", "run": "run", "metric": "2021"}
    finish_run(run, FeatureCache(made.directory), outcome | {"not_written": []})
    assert load_run(run, CPU).cache == str(made.directory)
    edit_json(run / "run.json", lambda outcome: outcome.update(best_accuracy=92.5))
    with pytest.raises(
        RunError, match=r"run\.json: does not fit its digest; .*train the head again"
    ):
        load_run(run, CPU)


def start_over(run: Path, made: Made) -> dict[str, str]:
    """Start a run anew, as --overwrite does."""
    shapes = {"vision_dim": VISION_DIM, "text_dim": TEXT_DIM, "grid": GRID, "answers": 3}
    return start_run(
        run,
        config=TrainConfig(),
        model=ModelConfig(**shapes, fusion="concat", width=8, heads=2),
        vocabulary=VOCABULARY,
        cache=FeatureCache(made.directory),
        overwrite=True,
    )


def test_a_new_run_keeps_nothing_of_the_old_one(run: Path, made: Made) -> None:
    seal(run)
    for name in ("model.next.safetensors", "model.previous.safetensors.partial", "metrics.jsonl"):
        (run / name).write_text("of a killed process")
    assert (run / "model.previous.safetensors").exists()

    files = start_over(run, made)

    assert sorted(path.name for path in run.iterdir()) == sorted([*MEANING, "run.json", MARK])
    assert files == read_digests(run)
    assert files.keys() == set(MEANING)
    with pytest.raises(RunError, match="there are no weights yet"):
        load_run(run, CPU)


@pytest.mark.parametrize("failing", MEANING)
def test_every_file_of_a_run_is_written_aside(
    failing: str, run: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up leaves no half of a file, whichever it is at.

    The weights are gone by then, so the message does not call the run whole.
    """
    real, before = os.replace, (run / failing).read_bytes()

    def full(source: Path, target: Path) -> None:
        if target.name == failing:
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(
            RunError, match=r"\(No space left.*begun to remove the run that was here"
        ):
            start_over(run, made)
        with pytest.raises(RunError, match=r"\(No space left.*that the run still has is whole"):
            start_over(run.with_name("new"), made)
    assert not (run / "model.safetensors").exists()
    assert (run / failing).read_bytes() == before
    assert not list(run.glob("*.partial"))
    start_over(run, made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vision": {"model": "other", "image size": 28}},
            "vision model is 'other'.*'made-up-vision'",
        ),
        ({"vision": {"model": "made-up-vision", "image size": 42}}, "vision image size is 42.* 28"),
        ({"vision": {"model": "made-up-vision"}}, "vision image size is None.* 28"),
        (
            {"vision": {"model": "made-up-vision", "image size": 28, "pool": 2}},
            "vision pool is 2.* None",
        ),
        ({"text": {"model": "made-up-text", "layer": -2}}, "text layer is -2.* -1"),
    ],
)
def test_features_of_other_encoders_are_refused(
    changes: dict, message: str, run: Path, tmp_path: Path
) -> None:
    other = make_cache(tmp_path / "other", {"train": [Row(0, 0)]}, spec=make_spec(**changes))
    with pytest.raises(CacheError, match=rf"other: {message}.*Give the cache it was trained from"):
        features_of(load_run(run, CPU), FeatureCache(other.directory))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_how_a_cache_stores_features_does_not_matter(dtype: str, run: Path, tmp_path: Path) -> None:
    spec = make_spec(dtype=dtype)
    other = make_cache(tmp_path / "other", {"val": [Row(0, 0)]}, spec=spec)
    features_of(load_run(run, CPU), FeatureCache(other.directory))

    make_run(other, tmp_path / "its run")
    assert (load_run(run, CPU).dtype, load_run(tmp_path / "its run", CPU).dtype) == (
        "float16",
        dtype,
    )
