"""A run loads as it was saved, or says what is wrong with it."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import frozen_vqa.pipeline.runs.run
from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.model.config import FUSIONS, Fusion, ModelConfig
from frozen_vqa.pipeline.runs.run import (
    MEANING,
    Run,
    finish_run,
    load_run,
    read_digests,
    require_same_encoders,
    start_run,
)
from frozen_vqa.pipeline.runs.sealed import seal_json
from frozen_vqa.pipeline.runs.weights import load_weights, save_weights
from tests.support.caches import GRID, TEXT_DIM, VISION_DIM, Made, Row, make_cache, make_spec
from tests.support.heads import VOCABULARY, make_run, seal

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("runs"), {"train": [Row(0, 0)]})


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Path:
    make_run(made, tmp_path / "run")
    return tmp_path / "run"


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
    assert loaded.cache == made.directory
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
    assert load_run(tmp_path / "run", CPU).cache == tmp_path / "features"


def edit_json(path: Path, change: Callable[[dict], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("name", ["config.json", "run.json"])
def test_a_folder_that_is_no_run(name: str, run: Path) -> None:
    (run / name).unlink()
    message = rf"run: not a run folder \({name} is missing\)\. Make one with `train-head"
    with pytest.raises(RunError, match=message):
        load_run(run, CPU)


@pytest.mark.parametrize("below", ["nowhere", "run/config.toml"], ids=["missing", "a file"])
def test_a_path_that_is_no_folder(below: str, run: Path) -> None:
    with pytest.raises(RunError, match=r"not a run folder \(config\.json is missing\)"):
        load_run(run.parent / below, CPU)


@pytest.mark.parametrize("name", ["config.json", "run.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "cannot be read"), (b"\xff\xff", "cannot be read"), (b"[]", "a JSON object is needed")],
    ids=repr,
)
def test_damaged_json(name: str, content: bytes, message: str, run: Path) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}: {message}"):
        load_run(run, CPU)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("model"),
        lambda config: config.pop("encoders"),
        lambda config: config.update(model=3),
        lambda config: config["model"].pop("grid"),
        lambda config: config["model"].update(unknown=3),
        lambda config: config["model"].update(width="8"),
        lambda config: config["model"].update(width=9),
        lambda config: config["model"].update(grid=6),
    ],
)
def test_a_config_that_is_not_of_a_run(change: Callable[[dict], Any], run: Path) -> None:
    edit_json(run / "config.json", change)
    seal(run)
    with pytest.raises(RunError, match=r"config\.json: not the config of a run \("):
        load_run(run, CPU)


def test_a_run_of_another_format(run: Path) -> None:
    edit_json(run / "config.json", lambda config: config.update(format=99))
    message = r"run format 99, this version reads 6; train .* again, or use .* version that made"
    with pytest.raises(RunError, match=message):
        load_run(run, CPU)


def test_a_run_without_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match="run: there are no weights yet; its training was stopped"):
        load_run(run, CPU)


@pytest.mark.parametrize("change", ["other shape", "one missing", "one more"])
def test_weights_of_another_head(change: str, run: Path) -> None:
    weights = load_weights(run)
    tensors = dict(weights.tensors)
    if change == "other shape":
        tensors["head.bias"] = torch.zeros(7)
    elif change == "one missing":
        del tensors["head.bias"]
    else:
        tensors["foot.bias"] = torch.zeros(7)
    save_weights(run, replace(weights, tensors=tensors))
    with pytest.raises(RunError, match=r"does not fit this run \(.*(head|foot)\.bias") as caught:
        load_run(run, CPU)
    assert "\n" not in str(caught.value)


def test_one_line_for_a_head_of_another_width(run: Path) -> None:
    edit_json(run / "config.json", lambda config: config["model"].update(width=32))
    seal(run)
    with pytest.raises(RunError, match=r"does not fit this run \(.*size mismatch") as caught:
        load_run(run, CPU)
    assert len(str(caught.value).replace(str(run), "")) < 400


@pytest.mark.parametrize(
    "sizes",
    [{"width": 2**40}, {"vision_dim": 10**11}, {"layers": 10**9}, {"grid": [10**9, 10**9]}],
    ids=str,
)
def test_a_config_takes_no_memory_until_it_fits_its_weights(sizes: dict, run: Path) -> None:
    """A run may come from the Hub; these heads would need more than any machine has."""
    edit_json(run / "config.json", lambda config: config["model"].update(sizes))
    seal(run)
    with pytest.raises(RunError, match=r"does not fit this run|not the config of a run"):
        load_run(run, CPU)


def test_a_vocabulary_of_another_head(run: Path) -> None:
    Vocabulary(("red",)).save(run / "answers.json")
    seal(run)
    with pytest.raises(RunError, match=r"answers\.json has 1 answers, the head 3"):
        load_run(run, CPU)


@pytest.mark.parametrize("name", MEANING)
def test_files_of_another_run_of_the_same_shape(
    name: str, run: Path, made: Made, tmp_path: Path
) -> None:
    """Each is whole by itself and would load: wrong answers without a word."""
    make_run(made, tmp_path / "other", vocabulary=Vocabulary(("2", "red", "größe")))
    edit_json(tmp_path / "other" / "config.json", lambda config: config["encoders"].update(text={}))
    with (tmp_path / "other" / "config.toml").open("a") as file:
        file.write("# a comment\n")
    shutil.copy(tmp_path / "other" / name, run / name)
    message = rf"{name}: not the file that the weights were saved with; .* train the head again"
    with pytest.raises(RunError, match=message):
        load_run(run, CPU)


@pytest.mark.parametrize("name", ["config.toml", "answers.json"])
def test_a_file_that_is_gone(name: str, run: Path) -> None:
    (run / name).unlink()
    with pytest.raises(RunError, match=rf"{name}: cannot be read \(No such file.*train the head"):
        load_run(run, CPU)


def test_a_failing_disk_is_said_of_its_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system names no file then: the file was opened, and its reading failed."""
    read = frozen_vqa.pipeline.runs.run.read_file

    def fail(path: Path) -> bytes:
        if path.name == "config.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(frozen_vqa.pipeline.runs.run, "read_file", fail)
    with pytest.raises(RunError, match=r"run/config\.json: cannot be read \(Input/output error\)"):
        read_digests(run)


@pytest.mark.parametrize("name", [*MEANING, "run.json", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_does_not_block(name: str, run: Path) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    answered = subprocess.run(
        [sys.executable, "-c", LOAD, str(run)], capture_output=True, text=True, timeout=50
    )
    assert "RunError" in answered.stderr
    assert f"{name}: cannot be read" in answered.stderr
    assert "not a regular file" in answered.stderr


LOAD = """
import sys, torch
from pathlib import Path
from frozen_vqa import load_run
load_run(Path(sys.argv[1]), torch.device("cpu"))
"""


def test_a_cache_path_with_a_nul_is_refused(run: Path) -> None:
    (run / "run.json").write_bytes(seal_json({"cache": "a\0b"}))
    with pytest.raises(RunError, match=r"the path of its cache holds a NUL"):
        load_run(run, torch.device("cpu"))


def contents(run: Run) -> tuple[Any, ...]:
    weights = {name: tensor.tolist() for name, tensor in run.model.state_dict().items()}
    return weights, run.model.config, run.vocabulary, run.config, run.encoders, run.cache


@pytest.mark.parametrize("name", [*MEANING, "run.json", "model.safetensors"])
def test_a_flipped_bit_is_found_or_changes_nothing(name: str, run: Path) -> None:
    expected, data = contents(load_run(run, CPU)), (run / name).read_bytes()
    said = []
    places = range(0, len(data), 1 + len(data) // 300)
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        (run / name).write_bytes(flipped)
        try:
            assert contents(load_run(run, CPU)) == expected
        except RunError as error:
            said.append(str(error))
    assert len(said) > 0.8 * len(places)
    assert all(str(run / name) in line or "run format" in line for line in said)


def test_the_outcome_is_sealed(run: Path, made: Made) -> None:
    finish_run(run, FeatureCache(made.directory), {"best_accuracy": 12.5, "fusion": "ö"})
    assert load_run(run, CPU).cache == made.directory
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

    assert sorted(path.name for path in run.iterdir()) == sorted([*MEANING, "run.json"])
    assert files == read_digests(run)
    assert files.keys() == set(MEANING)
    with pytest.raises(RunError, match="there are no weights yet"):
        load_run(run, CPU)


@pytest.mark.parametrize("failing", MEANING)
def test_every_file_of_a_run_is_written_aside(
    failing: str, run: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up leaves no half of a file, whichever it is at."""
    real, before = os.replace, (run / failing).read_bytes()

    def full(source: Path, target: Path) -> None:
        if target.name == failing:
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match=r"run: cannot be written \(No space left"):
            start_over(run, made)
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
        ({"text": {"model": "made-up-text", "layer": -2}}, "text layer is -2.* -1"),
    ],
)
def test_features_of_other_encoders_are_refused(
    changes: dict, message: str, run: Path, tmp_path: Path
) -> None:
    other = make_cache(tmp_path / "other", {"train": [Row(0, 0)]}, spec=make_spec(**changes))
    with pytest.raises(CacheError, match=rf"other: {message}.*Give the cache it was trained from"):
        require_same_encoders(load_run(run, CPU), FeatureCache(other.directory))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_how_a_cache_stores_features_does_not_matter(dtype: str, run: Path, tmp_path: Path) -> None:
    spec = make_spec(dtype=dtype)
    other = make_cache(tmp_path / "other", {"val": [Row(0, 0)]}, spec=spec)
    require_same_encoders(load_run(run, CPU), FeatureCache(other.directory))

    make_run(other, tmp_path / "its run")
    assert (load_run(run, CPU).dtype, load_run(tmp_path / "its run", CPU).dtype) == (
        "float16",
        dtype,
    )
