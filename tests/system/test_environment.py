"""No environment variable ends a command in a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.system import ranks
from tests.support.command import run_command
from tests.support.command_lines import make_inputs, working_lines
from tests.support.repository import ROOT

GARBAGE: list[dict[str, str | None]] = [
    *({name: value} for name in ("COLUMNS", "LINES") for value in ("0", "1", "-1", "x", "")),
    *({"TERM": value} for value in ("dumb", "unknown", "")),
    {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    *({"PYTHONIOENCODING": value} for value in ("ascii", "utf-16")),
    *({"HOME": value, "XDG_CACHE_HOME": None} for value in (None, "", "/proc/nowhere")),
    *({"TMPDIR": "/nowhere"}, {"HF_HOME": "/proc/nowhere"}, {"XDG_CACHE_HOME": "/proc/nowhere"}),
    *({"OMP_NUM_THREADS": "0"}, {"MKL_NUM_THREADS": "x"}, {"CUDA_VISIBLE_DEVICES": "x"}),
    *({"RANK": "x"}, {"WORLD_SIZE": "x"}, {"LOCAL_RANK": "x"}, {"LOCAL_WORLD_SIZE": "x"}),
    *({"HF_HUB_ETAG_TIMEOUT": "x"}, {"HF_DATASETS_IN_MEMORY_MAX_SIZE": "x"}, {"HF_ENDPOINT": "x"}),
    *({"FORCE_COLOR": "x"}, {"TERMINAL_WIDTH": "x"}, {"PYTHONWARNINGS": "x"}, {"GIT_DIR": "x"}),
]


@pytest.mark.parametrize("columns", ["0", "1", "2", "3", "7", "20", "-1", "x", "", "9" * 30])
def test_tables_fit_a_terminal_of_any_width(
    columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_inputs(tmp_path)
    monkeypatch.setenv("COLUMNS", columns)
    found = run_command(*working_lines(tmp_path, tmp_path)["score"])
    assert (found.code, "100.00" in found.err) == (0, True)


def test_ranks_that_meet_nobody_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "MEETING", ranks.timedelta(seconds=1))
    for name, value in {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(PipelineError, match=r"cannot meet at 127\.0\.0\.1:1"),
        ranks.torchrun_ranks(),
    ):
        pass


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("garbage", GARBAGE, ids=str)
def test_garbage_in_the_environment_is_no_traceback(
    garbage: dict[str, str | None], tmp_path: Path
) -> None:
    make_inputs(tmp_path)
    env = os.environ | {name: value for name, value in garbage.items() if value is not None}
    for name in garbage.keys() - {name for name, value in garbage.items() if value is not None}:
        env.pop(name, None)
    lines = working_lines(tmp_path, tmp_path / "out")
    for words in (["--help"], lines["score"], lines["extract-features"]):
        done = subprocess.run(
            [sys.executable, "cli.py", *words],
            cwd=ROOT,
            env=env,
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 1), done.stderr
