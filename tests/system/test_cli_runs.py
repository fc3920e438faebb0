"""Commands on a cache and a run that are there: which setting wins, what is damaged or missing."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.config import TrainConfig, load_config
from tests.support.command import error_of, only_line, run_command
from tests.support.tiny_commands import (
    _home,  # noqa: F401  (a fixture)
    train,
)


@pytest.fixture
def cache(place: Path, tmp_path: Path) -> Path:
    """A copy of the cache that a test may damage."""
    return Path(shutil.copytree(place / "cache", tmp_path / "cache"))


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    left_out = shutil.ignore_patterns("evaluation")
    return Path(shutil.copytree(place / "run", tmp_path / "run", ignore=left_out))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epoch = 3", r"unknown key 'epoch'; did you mean 'epochs'\?"),
        ("zzz = 3", r"unknown key 'zzz'; known are: fusion, layers, .*"),
        ("epochs = 'many'", r"epochs is 'many'; a .* is needed"),
        ("epochs = 0", r"epochs is 0; it must be at least 1 and below 2\*\*31"),
        ("lr = -1", r"lr is -1\.0; it must be above 0.*"),
        ("fusion = 'sum'", r"fusion is 'sum'; it must be one of co-attention, .*"),
        ("epochs = ", r"not a TOML file \(.*\)"),
        (b"\xff", r"not a TOML file \(.*\)"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_wrong_config_file(place: Path, tmp_path: Path, content: Any, said: str) -> None:
    file = tmp_path / "head.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = run_command(
        *("train-head", "--cache", place / "cache", "--run", tmp_path / "run", "--config", file)
    )
    assert re.fullmatch(rf"{re.escape(str(file))}: {said}", only_line(found))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epochs", 0), r"epochs is 0; it must be at least 1 and below 2\*\*31"),
        (("--batch-size", -1), r"batch_size is -1; it must be at least 1 and below 2\*\*31"),
        (("--train-split", "trian"), r".*: there is no split 'trian' .*\(splits: train, val\).*"),
        (("--min-answer-count", 10**6), r".*answer.*"),
        (("--device", "cuda:77"), r"device 'cuda:77' cannot be used: .*"),
    ],
)
def test_a_wrong_setting(place: Path, tmp_path: Path, words: tuple, said: str) -> None:
    found = run_command(
        *("train-head", "--cache", place / "cache", "--run", tmp_path / "run", "--epochs", 1),
        *words,
        "--json",
    )
    assert re.fullmatch(said, only_line(found))
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_flags_win_over_the_config_file(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "head.toml"
    file.write_text('fusion = "concat"\nepochs = 2\nwidth = 24\nmin_answer_count = 1\nheads = 2\n')
    found = run_command(
        *("train-head", "--cache", place / "cache", "--run", tmp_path / "run", "--config", file),
        *("--epochs", 1, "--plain-order", "--seed", 5, "--json"),
    )
    assert found.code == 0
    assert (found.json()["fusion"], found.json()["epochs"]) == ("concat", 1)
    used = load_config(tmp_path / "run" / "config.toml", {})
    assert used == TrainConfig(
        fusion="concat",
        epochs=1,
        width=24,
        heads=2,
        min_answer_count=1,
        group_by_image=False,
        seed=5,
    )


def test_flags_win_over_a_preset_and_the_run_keeps_all_settings(
    place: Path, tmp_path: Path
) -> None:
    command = ["train-head", "--cache", place / "cache", "--run", tmp_path / "run"]
    flags = ["--preset", "basic", "--epochs", 1, "--min-answer-count", 1, "--json"]
    found = run_command(*command, *flags, "--fusion", "text-to-image")
    assert found.code == 0
    used = (tmp_path / "run" / "config.toml").read_text()
    assert "preset" not in used
    assert all(line in used for line in ('fusion = "text-to-image"', "post_norm = true"))
    shapes = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert shapes["width"] == shapes["text_dim"]

    other = run_command(*command, "--resume", "--preset", "small")
    assert other.code == 1
    assert "layers was 1 when it began, and 6 is asked for" in other.err


def test_a_run_is_replaced_only_on_request(run: Path, place: Path) -> None:
    words = ("train-head", "--cache", place / "cache", "--run", run, "--epochs", 1)
    words = (*words, "--min-answer-count", 1, "--width", 8)
    before = (run / "model.safetensors").read_bytes()
    said = only_line(run_command(*words))
    assert said.startswith(f"{run}: there is a run in this folder already. Give another --run")
    assert (run / "model.safetensors").read_bytes() == before
    assert run_command(*words, "--overwrite").code == 0
    assert (run / "model.safetensors").read_bytes() != before


def flip(file: Path, where: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(where * len(data))] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["images/00000.h5", "questions/00000.h5", "splits/train.h5"])
def test_a_flipped_bit_stops_the_training(cache: Path, tmp_path: Path, name: str) -> None:
    flip(cache / name, 0.5)
    said = error_of(train(tmp_path, "--json"))
    assert str(cache / name) in said
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("command", ["train-head", "inspect-cache", "verify-cache"])
def test_a_changed_manifest_stops_every_command(cache: Path, tmp_path: Path, command: str) -> None:
    file = cache / "cache.json"
    file.write_text(file.read_text().replace('"rows": 8', '"rows": 9', 1))
    words = ("--cache", cache, "--run", tmp_path / "r") if command == "train-head" else (cache,)
    said = only_line(run_command(command, *words))
    assert said.startswith(f"{file}: its content has another digest")


def test_a_flipped_bit_is_found_by_verify_cache_wherever_it_is(cache: Path) -> None:
    sound = run_command("verify-cache", cache, "--json")
    assert sound.code == 0
    assert (sound.json()["files"], sound.json()["damaged"]) == (4, [])
    for name in ("images/00000.h5", "questions/00000.h5", "splits/val.h5"):
        flip(cache / name, 0.9)
    found = run_command("verify-cache", cache, "--json")
    assert found.code == 1
    damaged = found.json()["damaged"]
    assert [one["file"] for one in damaged] == [
        "images/00000.h5", "questions/00000.h5", "splits/val.h5"
    ]  # fmt: skip
    for one in damaged:
        assert f"{cache / one['file']}: {one['reason']}\n" in found.err
        assert f"  to make it again: {one['rebuild']}\n" in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda run: (run / "model.safetensors").unlink(),
            r".*there are no weights yet; .*|.*safetensors: is missing.*",
        ),
        (
            lambda run: flip(run / "model.safetensors", 0.9),
            r".*model\.safetensors: does not fit .*",
        ),
        (lambda run: (run / "config.json").write_text("{"), r".*config\.json: cannot be read .*"),
        (
            lambda run: (run / "config.json").write_text("[]"),
            r".*config\.json: found list; a JSON .*",
        ),
        (
            lambda run: (run / "answers.json").write_text('["yes"]'),
            r".*answers\.json: not the file that the weights were saved with; .*",
        ),
        (lambda run: (run / "answers.json").unlink(), r".*answers\.json: .*"),
    ],
)
def test_a_damaged_run(run: Path, damage: Any, said: str) -> None:
    damage(run)
    assert re.fullmatch(said, only_line(run_command("evaluate", "--run", run, "--json")))
    assert not (run / "evaluation").exists()


def test_a_split_that_the_cache_lacks(run: Path, place: Path) -> None:
    said = only_line(run_command("evaluate", "--run", run, "--split", "test"))
    assert said.startswith(f"{place / 'cache'}: there is no split 'test' in this cache")
    assert "extract-features" in said


def test_compare_sets_runs_side_by_side(run: Path, place: Path) -> None:
    found = run_command("evaluate", "--run", run, "--compare", place / "run", "--json")
    assert found.code == 0
    (compared,) = found.json()["compare"]
    assert compared["run"] == str(place / "run")
    assert {row["group"]: row["difference"] for row in compared["rows"]}["overall"] == 0.0
    assert all(row["difference"] == 0.0 for row in compared["rows"])
