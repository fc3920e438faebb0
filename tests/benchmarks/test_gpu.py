"""The figures for a GPU, in miniature and without one: every part ends and says what it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_it_in_miniature(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--small", "--out", tmp_path / "gpu.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["failed"] == {}
    assert found["stage_one"]["images"]["encoded"] == 6
    assert found["jpegs"]["decoders"]["Pillow"]["largest"] == 0
    for way in ("compiled", "CUDA graphs"):
        assert found["encoder"]["ways"][way]["same_bits"]
        assert found[f"stage_two default, {way}"]["training"]["steps"] > 0
    for preset in ("default", "large"):
        two = found[f"stage_two {preset}"]
        assert two["same_again"]
        assert two["training"]["steps"] > 0
        assert 0 < two["training"]["share_of_peak"] < 2
        assert two["save"]["bytes"] > 1000
        assert two["peak_bytes"] > 0
