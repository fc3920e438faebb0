"""The steps of every kind of head stay on a GPU, and their sums come in a fixed order."""

import os
import subprocess
import sys

import pytest

from tests.support.repository import ROOT


@pytest.mark.stops
@pytest.mark.timeout(1200)
def test_steps_on_a_fake_gpu() -> None:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "", "tests/support/gpu_steps.py"],
        cwd=ROOT,
        env=alone,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
