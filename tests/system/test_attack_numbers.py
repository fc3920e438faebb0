"""A stranger's numbers are refused by file, or by file and row, and never printed."""

import itertools
import json
from pathlib import Path

import pytest

from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.pipeline.runs.weights import CURRENT
from tests.support.attack import attack
from tests.support.caches import Made, make_cache, make_spec
from tests.support.forged_caches import BAD, PLACES, forge_cache
from tests.support.forged_runs import WEIGHTS, forge
from tests.support.heads import make_run, seal

TRAIN = ("--epochs", 1, "--width", 8, "--min-answer-count", 1)

QUICK = {("float16", PLACES[0], "nan"), ("float32", PLACES[1], "3e38"), ("int8", PLACES[0], "inf")}
CACHES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in itertools.product(DTYPES, PLACES, BAD)
]


@pytest.mark.parametrize(("dtype", "place", "name"), CACHES)
def test_features_that_are_not_finite(
    dtype: str, place: str, name: str, scenes: Made, tmp_path: Path
) -> None:
    """By file and row, in every command that reads them; 3e38 is infinite in float16."""
    sound = make_cache(
        tmp_path / "sound", scenes.splits, patch_embeddings=scenes.patch_embeddings,
        states=scenes.states, spec=make_spec(dtype=dtype),
    )  # fmt: skip
    make_run(sound, tmp_path / "run")
    cache = forge_cache(tmp_path / "cache", scenes, dtype=dtype, place=place, value=BAD[name])
    file, row = ("images/00000.h5", 3) if place == PLACES[0] else ("questions/00000.h5", 3)
    where = f"{cache.directory / file}: row {row}, of "
    evaluate = ("evaluate", "--run", tmp_path / "run", "--cache", cache.directory)
    new = tmp_path / "new"
    for words in (
        (*evaluate, "--split", "train"),
        (*evaluate, "--split", "train", "--save-logits"),
        ("train-head", "--cache", cache.directory, "--run", new, *TRAIN),
    ):
        found = attack(*words, place=tmp_path, writes=[tmp_path / "run", new])
        assert where in found.require_harmless()
    assert not (tmp_path / "run/evaluation").exists()
    assert not (new / CURRENT).exists()
    found = attack("verify-cache", cache.directory, place=tmp_path)
    assert found.finished.code == 1
    assert "rows hold numbers that are not finite or beyond 1e18" in found.finished.err
    assert not found.did
    assert not found.changed


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_no_training_writes(name: str, scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(scenes, run)
    forge(run / CURRENT, WEIGHTS[name])
    found = attack("evaluate", "--run", run, "--cache", scenes.directory, place=tmp_path)
    assert found.require_harmless().startswith(f"{run / CURRENT}: ")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("file", ["run.json", "config.json"])
def test_json_of_a_run_holds_finite_numbers(
    file: str, value: str, scenes: Made, tmp_path: Path
) -> None:
    """Those of the outcome are printed, and put into the card; python's own reader takes them."""
    run = tmp_path / "run"
    make_run(scenes, run)
    found = json.loads((run / file).read_bytes())
    text = json.dumps({**found, "best_accuracy": 0}).replace('accuracy": 0', f'accuracy": {value}')
    (run / file).write_text(text)
    seal(run)
    found = attack("evaluate", "--run", run, "--cache", scenes.directory, place=tmp_path)
    assert found.require_harmless().startswith(f"{run / file}: cannot be read (a number in it is")
