"""`train-head` scores its head and writes a report at the end, unless refused."""

from pathlib import Path

import pytest

from frozen_vqa.pipeline.report import page
from tests.support.caches import Made
from tests.support.command import Finished, run_command
from tests.support.report_page import read_page


def trained(scenes: Made, run: Path, *words: object) -> Finished:
    sizes = ("--width", 8, "--epochs", 2, "--min-answer-count", 1, "--lr", 0.01)
    return run_command(
        "train-head", "--cache", scenes.directory, "--run", run, *sizes, *words, "--json"
    )


def test_a_training_ends_with_a_report(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "BRIEF_MAPS", 10)
    found = trained(scenes, tmp_path / "run")
    assert found.code == 0, found.err
    path = tmp_path / "run/evaluation/val/report.html"
    assert found.json()["report"] == str(path)
    assert found.err.splitlines()[-1] == f"report: {path}"
    shown = read_page(path)
    assert f"{found.json()['best_accuracy']:.2f} %" in shown.text
    assert "These questions chose the best epoch of the head" in shown.text
    assert "Training loss by epoch" in {value for _, _, value in shown.attributes}
    assert len(shown.data["maps"]) == 10
    assert len(shown.data["data"]["cards"]["id"]) == 32


def test_a_report_can_be_refused(scenes: Made, tmp_path: Path) -> None:
    found = trained(scenes, tmp_path / "run", "--no-report")
    assert found.code == 0, found.err
    assert "report" not in found.json()
    assert not (tmp_path / "run/evaluation").exists()


def test_a_report_that_cannot_be_written_costs_nothing_else(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(page, "write_atomically", full)
    found = trained(scenes, tmp_path / "run")
    assert found.code == 3
    assert (tmp_path / "run/evaluation/val/scores.json").exists()
    (why,) = found.json()["not_written"]
    assert "report.html" in why
    assert found.json()["best_accuracy"] > 0
