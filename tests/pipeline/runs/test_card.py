"""A card of a run that may come from anybody: its files can hold, and be, whatever they like."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.card import CARD, owns_card, render_card, write_card
from frozen_vqa.pipeline.runs.environment import note_environment
from frozen_vqa.pipeline.runs.folder import ENVIRONMENT
from frozen_vqa.pipeline.runs.run import read_outcome
from frozen_vqa.pipeline.runs.sealed import seal_json, unseal_json
from tests.support import finished_runs
from tests.support.resuming import CPU

trained = finished_runs.trained  # a fixture

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 10**400, 1e300, "", "x", "a|b\n# x", "\ud800", "/" + "x" * 5000),
    *([], [1], [["a"]], {}, {"a": 1}, {"overall": "x"}, {"overall": 1, "x\n|y": 10**400}),
)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


KINDS: tuple[Callable[[Path], None], ...] = (
    make_pipe,
    make_hole,
    Path.mkdir,
    lambda path: path.symlink_to(path.name),
    lambda path: path.write_text("[" * 200_000) and None,
)


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def changes(sealed: Path) -> list[dict[str, Any]]:
    """Return what a sealed file holds, with each value in turn another one, or missing."""
    found = unseal_json(json.loads(sealed.read_text()))
    without = [{k: v for k, v in found.items() if k != name} for name in found]
    return [*({**found, name: value} for name in found for value in VALUES), *without]


def test_no_scores_end_a_command(trained: Path) -> None:
    outcome, card = read_outcome(trained), (trained / CARD).read_text()
    assert outcome
    forged = trained / "evaluation" / "forged" / "scores.json"
    forged.parent.mkdir()
    for scores in changes(trained / "evaluation" / "val" / "scores.json"):
        try:
            forged.write_bytes(seal_json(scores))
        except ValueError:  # this value cannot be written at all
            continue
        lines = render_card(trained, outcome).splitlines()
        assert len(lines) - len(card.splitlines()) in (0, 1)
    forged.unlink()
    for make in KINDS:
        make(forged)
        assert render_card(trained, outcome) == card
        forged.rmdir() if forged.is_dir() else forged.unlink()


def test_an_outcome_that_none_can_have_is_one_sentence(trained: Path) -> None:
    card, refused, record = (trained / CARD).read_text(), [], trained / "run.json"
    before = record.read_bytes()
    for outcome in changes(record):
        try:
            record.write_bytes(seal_json(outcome))
        except ValueError:  # this value cannot be written at all
            continue
        try:
            write_card(trained, read_outcome(trained) or unseal_json(json.loads(before)))
        except RunError as error:
            refused.append(str(error))
        assert len((trained / CARD).read_text().splitlines()) == len(card.splitlines())
    assert len(refused) > 150
    assert {"run.json: not the record of a run" in line for line in refused} == {True}
    assert {"\n" in line for line in refused} == {False}
    record.write_bytes(before)
    write_card(trained, read_outcome(trained) or {})
    assert (trained / CARD).read_text() == card


@pytest.mark.parametrize("make", KINDS)
def test_what_is_no_file_of_ours_is_not_waited_for(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / CARD)
    assert not owns_card(tmp_path)
    make(tmp_path / ENVIRONMENT)
    with pytest.raises(RunError) if (tmp_path / ENVIRONMENT).is_dir() else nullcontext():
        note_environment(tmp_path, CPU, {})
        assert len(json.loads((tmp_path / ENVIRONMENT).read_text())) == 1
