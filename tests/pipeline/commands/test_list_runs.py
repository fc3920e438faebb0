"""What heads are in a folder: read from their records, the damaged ones named and not fatal."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.pipeline.runs.sealed import seal_json, unseal_json
from tests.support.command import error_of, run_command
from tests.support.repository import ROOT
from tests.support.tiny_commands import at_home, extract, train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a cache and a run that was evaluated."""
    with at_home(tmp_path_factory):
        made = tmp_path_factory.mktemp("runs")
        assert extract(made, "--split", "train", "--split", "val").code == 0
        assert train(made, "--fusion", "concat", "--no-report").code == 0
        assert run_command("evaluate", made / "run", "--split", "train").code == 0
        yield made


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A folder with that run in two depths."""
    shutil.copytree(made / "run", tmp_path / "runs" / "a")
    shutil.copytree(made / "run", tmp_path / "runs" / "sweep" / "b")
    return tmp_path / "runs"


def test_runs_with_their_scores(place: Path) -> None:
    found = run_command("runs", place, "--json")
    assert found.code == 0, found.err
    runs = found.json()["runs"]
    assert [run["run"] for run in runs] == [str(place / "a"), str(place / "sweep" / "b")]
    for run in runs:
        assert (run["fusion"], run["finished"], run["epochs"]) == ("concat", True, 1)
        assert run["faults"] == []
        (score,) = run["evaluations"]
        assert (score["split"], score["trained_on"]) == ("train", True)
        assert "untrained" in run["caveats"][0]
        assert f"{run['accuracy']:.2f} on val" in found.err
    shown = " ".join(found.err.split())
    assert "both encoders are untrained" in shown
    assert run_command("runs", place / "a", "--json").json()["runs"][0] == runs[0]


DAMAGE = {
    "run.json": b'{"cache": "x", "best_accuracy": "high"}',
    "config.json": b"{}",
    "config.toml": b"= 3",
    "evaluation/train/scores.json": b'{"split": 3}',
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("kept", ["damaged", "empty"])
def test_a_damaged_run_is_named_and_the_others_are_listed(
    name: str, kept: str, place: Path
) -> None:
    (place / "a" / name).write_bytes(DAMAGE[name] if kept == "damaged" else b"")
    found = run_command("runs", place, "--json")
    if name == "config.toml" and kept == "empty":
        return  # all defaults
    assert found.code == 3
    by_name = {Path(run["run"]).name: run for run in found.json()["runs"]}
    assert by_name["b"]["faults"] == []
    assert any(str(place / "a") in fault for fault in by_name["a"]["faults"])
    assert all(f"warning: {fault}" in found.err for fault in by_name["a"]["faults"])


def test_a_score_beyond_all_is_a_fault_and_no_figure(place: Path) -> None:
    (scores,) = (place / "a").glob("evaluation/*/scores.json")
    found = unseal_json(json.loads(scores.read_text()))
    for wrong in (1e300, -1, 101, "x", None):
        scores.write_bytes(seal_json({**found, "accuracy": {"overall": wrong}}))
        listed = run_command("runs", place / "a", "--json").json()["runs"]
        assert [(len(run["faults"]), run["evaluations"]) for run in listed] == [(1, [])]


def test_a_best_epoch_after_the_last_is_a_fault(place: Path) -> None:
    record = place / "a" / "run.json"
    found = unseal_json(json.loads(record.read_text()))
    for wrong in (0, 1):
        record.write_bytes(seal_json({**found, "best_epoch": found["epochs"] + wrong}))
        listed = run_command("runs", place / "a", "--json")
        assert [len(run["faults"]) for run in listed.json()["runs"]] == [wrong]
        assert listed.code == 3 * wrong


def test_an_unfinished_run(place: Path, made: Path) -> None:
    record = json.loads((place / "a" / "run.json").read_text())
    (place / "a" / "run.json").write_bytes(seal_json({"cache": record["cache"]}))
    found = run_command("runs", place, "--json")
    last = found.json()["runs"][-1]
    assert (last["finished"], last["accuracy"]) == (False, None)
    assert "unfinished" in found.err


def test_no_run_and_no_folder(tmp_path: Path) -> None:
    assert run_command("runs", tmp_path, "--json").json()["runs"] == []
    none = tmp_path / "none"
    said = error_of(run_command("runs", none))
    assert said == f"{none}: there is nothing here; give the folder that holds your runs"


def test_it_loads_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from frozen_vqa.pipeline.commands.list_runs import list_command;"
        "from pathlib import Path; list_command(Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "False\n"
