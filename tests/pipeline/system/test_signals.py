"""Signals wait until nothing is left half done, and then reach whoever listened before."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.loop import TrainResult
from tests.support import resuming
from tests.support.caches import Made
from tests.support.resuming import GROUPED, begin

kept_states = resuming.kept_states  # a fixture, in force in every test


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Signals that reach whoever listened before."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def signalled(heard: list[int]) -> None:
    """A signal that comes where nothing may be left half done."""
    with Stop() as stop:
        stop.check()
        signal.raise_signal(signal.SIGTERM)
        heard.append(0)
        stop.check()


def test_a_signal_waits_for_a_check_and_is_then_passed_on(heard: list[int]) -> None:
    with pytest.raises(SystemExit) as caught:
        signalled(heard)
    assert caught.value.code == 143
    assert heard == [0, signal.SIGTERM]
    assert isinstance(caught.value.__context__, Stopped)


def signalled_anywhere(heard: list[int], *, before: bool) -> None:
    """A signal that comes, before or within, where nothing can be left half done."""
    with Stop() as stop:
        if before:
            signal.raise_signal(signal.SIGTERM)
            heard.append(0)
        with stop.anywhere():
            signal.raise_signal(signal.SIGTERM)
            heard.append(0)


@pytest.mark.parametrize("before", [False, True])
def test_a_signal_raises_at_once_where_it_may(before: bool, heard: list[int]) -> None:
    with pytest.raises(SystemExit):
        signalled_anywhere(heard, before=before)
    assert heard == [0, signal.SIGTERM][not before :]


def test_the_second_signal_does_not_wait(heard: list[int]) -> None:
    with pytest.raises(SystemExit), Stop():
        [signal.raise_signal(signal.SIGTERM) for _ in range(3)]
    assert heard == [signal.SIGTERM] * 3  # the second, the third, and the first passed on


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            stop.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_in_another_thread(scenes: Made, tmp_path: Path) -> None:
    done: list[TrainResult] = []
    work = threading.Thread(target=lambda: done.append(begin(scenes, tmp_path / "run", GROUPED)))
    work.start()
    work.join()
    assert done[0].epochs == 2
