"""A folder that is no run, or not a whole one: the error says what is wrong with it."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import frozen_vqa.pipeline.runs.run
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.run import MEANING, Run, load_run, read_digests
from frozen_vqa.pipeline.runs.sealed import seal_json
from frozen_vqa.pipeline.runs.weights import load_weights, save_weights
from tests.support import run_folders
from tests.support.caches import Made
from tests.support.heads import make_run, seal
from tests.support.run_folders import edit_json
from tests.support.waiting import within

CPU = torch.device("cpu")

made, run = run_folders.made, run_folders.run  # fixtures


@pytest.mark.parametrize("name", ["config.json", "run.json"])
def test_a_folder_that_is_no_run(name: str, run: Path) -> None:
    (run / name).unlink()
    message = rf"run: there is no run here \({name} is missing\)\. `frozen-vqa train-head"
    with pytest.raises(RunError, match=message):
        load_run(run, CPU)


@pytest.mark.parametrize("below", ["nowhere", "run/config.toml"], ids=["missing", "a file"])
def test_a_path_that_is_no_folder(below: str, run: Path) -> None:
    said = (
        "is a file; the folder of a run" if "toml" in below else r"no run here \(there is no such"
    )
    with pytest.raises(RunError, match=rf"{said}.* Did you mean .*/run\?"):
        load_run(run.parent / below, CPU)


@pytest.mark.parametrize("name", ["config.json", "run.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "cannot be read"), (b"\xff\xff", "cannot be read"), (b"[]", "found list; a JSON")],
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
    message = (
        r"the run has format 99, but .* reads format 6\. A newer version made it: update this one"
    )
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
    with pytest.raises(RunError, match=r"does not fit this run \(.*is needed\)") as caught:
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
    with pytest.raises(
        RunError, match=r"answers\.json: it has 1 answers, but the head tells 3 apart"
    ):
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
    assert all(str(run / name) in line or "the run has format" in line for line in said)


def test_a_failing_disk_is_said_of_its_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system names no file then: the file was opened, and its reading failed."""
    read = frozen_vqa.pipeline.runs.run.read_file

    def fail(path: Path, *, most: int) -> bytes:
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
    with within(20), pytest.raises(RunError, match=rf"{name}: cannot be read.*not a regular file"):
        load_run(run, CPU)


def test_a_cache_path_with_a_nul_is_refused(run: Path) -> None:
    (run / "run.json").write_bytes(seal_json({"cache": "a\0b"}))
    with pytest.raises(RunError, match=r"cache is .*a path without NUL is needed"):
        load_run(run, torch.device("cpu"))
