"""Each phase of an extraction has the time of its own blocks, and shares are of the whole."""

import pytest

from frozen_vqa.pipeline.extract.speed import throughput
from frozen_vqa.pipeline.extract.speed.throughput import PHASES, PhaseTimer, format_shares
from tests.support.clocks import Clock


def test_each_phase_adds_up_its_own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that fail; and the whole goes on between them."""
    clock, shown = Clock(monkeypatch, throughput), []
    timer = PhaseTimer(lambda count, note: shown.append((count, note)))
    for seconds, phase in enumerate((*PHASES, *PHASES), start=1):
        with timer.measure(phase):
            clock.now += seconds

    def fail() -> float:
        clock.now += 4
        return 1 / 0

    with pytest.raises(ZeroDivisionError), timer.measure("writing"):
        fail()
    clock.now += 10
    timer.stop()

    assert timer.seconds == {"encoding": 6, "waiting": 8, "reading": 10, "writing": 16}
    assert timer.wall == 50
    timer.advance(7, note="more")
    timer.advance(1)
    shares = "encoding 12 %, waiting 16 %, reading 20 %, writing 32 %"
    assert shown == [(7, f"{shares}, more"), (1, shares)]
    assert format_shares(timer.seconds, 0.0).startswith("encoding ")
