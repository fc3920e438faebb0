"""The ranks of a sweep, live and in a log."""

import time

import numpy as np
import pytest

from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.runs.state import EpochLine
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.train.sweep_table import SweepTable

LINES = {
    "low": [(0.9, 40.0), (0.8, 50.0)],
    "fails": [(0.1, 90.0)],
    "high": [(0.7, 61.0), (0.6, 60.0)],
}


def filled() -> SweepTable:
    """A table whose best head was better an epoch before, and one of whose heads has failed."""
    table = SweepTable([*LINES, "begins"], TrainConfig(epochs=3))
    for name, lines in LINES.items():
        for epoch, (loss, accuracy) in enumerate(lines, start=1):
            table.add(name, EpochLine(epoch, loss, accuracy, 0.1, 1.0, 1.0, 0.0))
    table.fail("fails")
    return table


def test_lines_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    table = filled()
    with table.show_live():
        table.print_lines()
    assert capsys.readouterr().err.splitlines() == [
        "1. high: epoch 2/3, loss 0.6000, accuracy 60.00 % on val, best 61.00 %",
        "2. low: epoch 2/3, loss 0.8000, accuracy 50.00 % on val, best 50.00 %",
        "4. fails: epoch 1/3, loss 0.1000, accuracy 90.00 % on val, best 90.00 %",
    ]


def test_a_live_table_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setattr(console, "is_interactive", True)
    monkeypatch.setenv("TERM", "xterm")
    table = filled()
    order = plan_batches(np.zeros(7, dtype=int), batch_size=7, grouped=False, shuffle=None)
    shown, deadline = "", time.monotonic() + 10
    with table.show_live(), table.progress("epoch 3/3", order) as advance:
        advance(7)
        while "7/7" not in shown and time.monotonic() < deadline:
            time.sleep(0.01)  # it is drawn by a thread, a few times a second
            shown += capsys.readouterr().err
    places = [shown.index(name) for name in ("high", "low", "begins", "fails", "7/7")]
    assert places == sorted(places)
