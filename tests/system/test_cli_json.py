"""What commands print: with --json one object alone on stdout, without it lines for people."""

import json
from pathlib import Path

from frozen_vqa.pipeline.runs.sealed import unseal_json
from tests.support.command import run_command
from tests.support.tiny_commands import (
    _home,  # noqa: F401  (a fixture)
    extract,
    train,
)


def test_json_of_every_command_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    found = extract(tmp_path, "--split", "train", "--split", "val", "--json")
    assert found.code == 0
    said = found.json()
    assert set(said) >= {"images", "questions", "bytes", "seconds", "left_out", "failures"}
    assert said["images"] == {"total": 9, "ids": 9, "encoded": 9, "skipped": 0}
    assert set(said["questions"]) == {"total", "distinct", "tokens", "prefixes", "skipped"}
    counts = [said["questions"][name] for name in ("prefixes", "tokens")]
    assert 0 < said["questions"]["distinct"] <= said["questions"]["total"]
    assert counts == sorted(counts)
    assert said["bytes"] == sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.h5"))
    assert said["seconds"] > 0

    trained = train(tmp_path, "--fusion", "concat", "--json").json()
    assert set(trained) >= {
        *("run", "fusion", "epochs", "best_accuracy", "trainable_parameters"),
        *("questions_per_second", "data_wait_fraction", "seconds"),
    }
    assert (trained["run"], trained["fusion"]) == (str(tmp_path / "run"), "concat")

    scored = run_command("evaluate", "--run", tmp_path / "run", "--json").json()
    assert set(scored) >= {"accuracy", "by_question_type", "questions", "metric"}
    assert "overall" in scored["accuracy"]
    assert scored["metric"] == "2021"
    file = tmp_path / "run" / "evaluation" / "val" / "scores.json"
    assert scored == unseal_json(json.loads(file.read_text()))

    held = run_command("inspect-cache", tmp_path / "cache", "--json").json()
    assert held["images"] == {"rows": 9, "shards": 1}
    assert held["questions"]["prefixes"] == said["questions"]["prefixes"]
    assert held["questions"]["distinct"] == said["questions"]["distinct"]
    assert held["bytes"] == said["bytes"]
    assert held["settings"]["vision model"] == held["settings"]["text model"] == "tiny"
    assert held["settings"]["text layer"] == -1
    assert held["settings"]["dtype"] == "float16"
    assert set(held["splits"]) == {"train", "val"}
    assert held["failures"] == []


def test_without_json_stdout_is_empty_and_people_are_told(tmp_path: Path) -> None:
    found = extract(tmp_path, "--split", "train", "--split", "val")
    assert (found.code, found.out) == (0, "")
    assert "9 of 9 pictures encoded in " in found.err
    found = train(tmp_path)
    assert (found.code, found.out) == (0, "")
    assert f"{tmp_path / 'run'}: best accuracy " in found.err
    found = run_command("evaluate", "--run", tmp_path / "run")
    assert (found.code, found.out) == (0, "")
    assert "results in the official form: " in found.err
    found = run_command("inspect-cache", tmp_path / "cache")
    assert (found.code, found.out) == (0, "")
    assert "largest value" in found.err
    found = run_command("verify-cache", tmp_path / "cache")
    assert (found.code, found.out) == (0, "")
    assert "all sound" in found.err


def test_brackets_and_colons_in_a_path_are_no_markup(tmp_path: Path) -> None:
    """Rich would swallow [red], take :cat: for a cat, and fail at [/x]."""
    odd = tmp_path / "[red] [a] :cat:" / "[" / "x]"
    odd.mkdir(parents=True)
    assert extract(odd, "--split", "train", "--split", "val").err.count(str(odd / "cache")) == 1
    assert str(odd / "run") in train(odd).err
    shown = "".join(run_command("inspect-cache", odd / "cache").err.split())
    assert "[red][a]:cat:" in shown  # a line may end anywhere in a path
    found = run_command("evaluate", "--run", odd / "run")
    assert f"results in the official form: {odd / 'run'}" in found.err
