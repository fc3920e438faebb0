"""What `watched` says of a process: what it printed last, and the memory of all that it started."""

import os
from pathlib import Path

import pytest

from benchmarks.harness import MeasurementError, watched

PARENT = """
import subprocess, sys, time
from subprocess import PIPE
held = b"x" * 30_000_000
hold = "import sys; held = b'x' * 50_000_000; print('held', flush=True); sys.stdin.read()"
command = [sys.executable, "-c", hold]
two = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE) for _ in range(2)]
said = [child.stdout.readline() for child in two]
time.sleep(0.5)  # all three hold it now
codes = [child.communicate() and child.returncode for child in two]
print('{"said": 1}' if codes == [0, 0] and all(said) else "")
"""


def run(script: Path, text: str) -> dict[str, float]:
    script.write_text(text)
    return watched("cProfile", ["-o", os.devnull, script])  # which runs a file, and prints nothing


def test_the_memory_of_children_counts(tmp_path: Path) -> None:
    found = run(tmp_path / "parent.py", PARENT)
    assert found["said"] == 1
    assert found["wall"] > 0.5
    assert found["anonymous_mb"] > 30
    assert 130 < found["family_mb"] < 1000
    assert found["family_mb"] > found["resident_mb"] + 50


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="no such thing"):
        run(tmp_path / "failing.py", "raise ValueError('no such thing')")
