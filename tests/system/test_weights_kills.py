"""Killed or failing at any step of a save, a run always has weights that load."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.folder import CURRENT, PREVIOUS, weight_files
from frozen_vqa.pipeline.runs.weights import save_weights
from tests.support import weights
from tests.support.disk_calls import watch
from tests.support.repository import ROOT
from tests.support.weights import epochs, made, names

links = weights.links  # a fixture


class Killed(BaseException):
    """Nothing that the process would do after it is done."""


class Steps:
    """Every call that touches the disk, of which the n-th and all later ones do nothing."""

    def __init__(self, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.last, self.taken = last, 0
        watch(self.step, monkeypatch, also=((Path, "read_bytes"),))

    def step(self) -> None:
        self.taken += 1
        if self.taken > self.last:
            raise Killed


LINK = os.link


def leave(run: Path, what: str) -> None:
    """Leave what a process leaves that is killed at some step."""
    if what == "coming":
        weight_files(run).coming.write_text("whole, or not")
    elif what == "half":
        (run / f"{PREVIOUS}.partial").write_text("half")
    elif what == "link":
        LINK(run / CURRENT, run / f"{PREVIOUS}.partial")


@pytest.mark.parametrize(
    ("saved", "left"),
    [(0, ""), (1, ""), (2, ""), (3, ""), (0, "coming"), (2, "coming"), (2, "half"), (2, "link")],
)
def test_a_kill_at_any_step_leaves_whole_weights(
    saved: int,
    left: str,
    links: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever an earlier kill has left there; and the next save goes on from there."""
    kept, died = set(), 0
    while True:
        run = tmp_path / str(died)
        run.mkdir()
        for epoch in range(1, saved + 1):
            save_weights(run, made(epoch))
        leave(run, left)
        with monkeypatch.context() as patch:
            steps = Steps(died, patch)
            with suppress(Killed):
                save_weights(run, made(saved + 1))
        if steps.taken <= steps.last:
            break
        died += 1
        if (run / CURRENT).exists():
            kept.add(epochs(run))
        else:
            assert saved == 0
        before = epochs(run)[:1] if (run / CURRENT).exists() else ()
        save_weights(run, made(9))
        assert epochs(run) == (9, *before)
        assert names(run) == {CURRENT, PREVIOUS} if before else {CURRENT}
    assert epochs(run) == ((saved + 1, saved) if saved else (1,))
    assert died > 5
    assert kept == {
        0: {(1,)},
        1: {(1,), (1, 1), (2, 1)},
    }.get(saved, {(saved, saved - 1), (saved, saved), (saved + 1, saved)})


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failed_save_leaves_what_was_there(
    error: BaseException, links: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a kill: the process lives on, and cleans up."""
    real = os.replace
    for failing in (weight_files(tmp_path).coming.name, PREVIOUS, CURRENT):
        run = tmp_path / failing
        run.mkdir()
        for epoch in (1, 2):
            save_weights(run, made(epoch))

        def fail(source: Path, target: Path, failing: str = failing) -> None:
            if target.name == failing:
                raise error
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            expected = RunError if isinstance(error, OSError) else KeyboardInterrupt
            with pytest.raises(expected) as caught:
                save_weights(run, made(3))
        if isinstance(error, OSError):
            assert "No space left" in str(caught.value)
            assert "every file that the run still has is whole" in str(caught.value)
        assert epochs(run)[0] == 2
        assert names(run) == {CURRENT, PREVIOUS}
        save_weights(run, made(4))
        assert epochs(run) == (4, 2)
        assert names(run) == {CURRENT, PREVIOUS}


CHILD = """
import sys
from itertools import count
from pathlib import Path
from tests.support import weights
from frozen_vqa.pipeline.runs.weights import save_weights
run = Path(sys.argv[1])
save_weights(run, weights.made(1))
print("begun", flush=True)
for epoch in count(2):
    save_weights(run, weights.made(epoch))
"""


def test_whenever_a_process_stops_there_are_whole_weights(tmp_path: Path) -> None:
    """It is stopped, not killed, so that one process does for many instants."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            seen = [1]
            while len(set(seen)) < 30:
                time.sleep(random.random() / 100)
                os.kill(child.pid, signal.SIGSTOP)
                os.waitid(os.P_PID, child.pid, os.WSTOPPED)
                seen.append(epochs(tmp_path)[0])
                os.kill(child.pid, signal.SIGCONT)
            assert seen == sorted(seen)
        finally:
            child.kill()
