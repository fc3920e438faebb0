"""What fails late leaves the work: whatever stderr and stdout are, the files are there."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import frozen_vqa.pipeline.train.tensorboard
import frozen_vqa.pipeline.train.train
from frozen_vqa import cli
from frozen_vqa.pipeline.system.console import console
from tests.support import tiny_commands
from tests.support.caches import Made
from tests.support.command import Finished, run_command
from tests.support.heads import make_run
from tests.support.repository import ROOT
from tests.support.summaries import Writer

_home = tiny_commands._home  # a fixture

HEAD = ("--epochs", 1, "--width", 16, "--min-answer-count", 1)


class Failing(io.TextIOBase):
    """A stream that takes nothing: its reader has gone, its disk is full, or it was closed."""

    def __init__(self, error: Exception, *, terminal: bool = False) -> None:
        self.error, self.terminal = error, terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


STREAMS: dict[str, Callable[[], io.TextIOBase | None]] = {
    "its reader has gone": lambda: Failing(BrokenPipeError(32, "Broken pipe")),
    "full": lambda: Failing(OSError(28, "No space left on device")),
    "closed": lambda: Failing(ValueError("I/O operation on closed file.")),
    "a terminal that is gone": lambda: Failing(OSError(5, "Input/output error"), terminal=True),
    "none": lambda: None,
}
Words = Callable[[Path, Made], tuple[object, ...]]
COMMANDS: dict[str, Words] = {
    "train": lambda place, made: (
        *("train-head", "--cache", made.directory, "--run", place / "new", *HEAD),
    ),
    "sweep": lambda place, made: (
        *("train-head", "--cache", made.directory, "--run", place / "heads", *HEAD),
        *("--sweep", place / "sweep.toml"),
    ),
    "evaluate": lambda place, made: (
        *("evaluate", "--run", place / "run", "--save-logits", "--table", place / "table.md"),
        "--shuffle-images",
    ),
    "convert": lambda place, made: ("convert-cache", made.directory, "--cache", place / "int8"),
    "inspect": lambda place, made: ("inspect-cache", made.directory),
    "verify": lambda place, made: ("verify-cache", made.directory),
    "score": lambda place, made: (
        *("score", "--predictions", place / "said.json", "--annotations", place / "truth.json"),
        *("--per-question", place / "each.json"),
    ),
}


def prepare(place: Path, made: Made) -> None:
    make_run(made, place / "run")
    (place / "sweep.toml").write_text("width = 16\nseed = [0, 1]\n")
    asked = {"question_id": 1, "image_id": 1, "answers": [{"answer": "red"}]}
    (place / "truth.json").write_text(json.dumps({"annotations": [asked]}))
    (place / "said.json").write_text('[{"question_id": 1, "answer": "red"}]')


def made_files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


Undisturbed = tuple[str, set[str], dict[str, Any]]


@pytest.fixture(scope="module")
def undisturbed(
    request: Any, scenes: Made, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """A command, the files that it leaves and its result, where every stream takes all."""
    place = tmp_path_factory.mktemp("undisturbed")
    prepare(place, scenes)
    done = run_command(*COMMANDS[request.param](place, scenes), "--json")
    assert done.code == 0, done.err
    return request.param, made_files(place), done.json()


def every_command(*of_trainings: str) -> pytest.MarkDecorator:
    """Run a test for each command and stream; trainings, of a second each, get only these."""
    pairs = [
        (command, kind)
        for command in COMMANDS
        for kind in (of_trainings if command in ("train", "sweep") else STREAMS)
    ]
    return pytest.mark.parametrize(("undisturbed", "kind"), pairs, indirect=["undisturbed"])


def run_with_streams(
    command: str, place: Path, made: Made, monkeypatch: pytest.MonkeyPatch, **streams: Any
) -> object:
    """Run a command with these in place of `sys.stdout` and `sys.stderr`; return its exit code."""
    prepare(place, made)
    words = COMMANDS[command](place, made)
    monkeypatch.setattr(sys, "argv", ["frozen-vqa", *map(str, words), "--json"])
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0


@every_command("its reader has gone", "a terminal that is gone", "none")
def test_a_stderr_that_takes_nothing_ends_no_command(
    undisturbed: Undisturbed,
    kind: str,
    scenes: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, whole, result = undisturbed
    out = io.StringIO()
    code = run_with_streams(
        command, tmp_path, scenes, monkeypatch, stdout=out, stderr=STREAMS[kind]()
    )
    assert (code, json.loads(out.getvalue()).keys()) == (0, result.keys())
    assert made_files(tmp_path) == whole


@every_command("full")
def test_a_stdout_that_takes_nothing_leaves_work_and_result(
    undisturbed: Undisturbed,
    kind: str,
    scenes: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, whole, result = undisturbed
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    said = io.StringIO()
    code = run_with_streams(
        command, tmp_path, scenes, monkeypatch, stdout=STREAMS[kind](), stderr=said
    )
    assert code == 1
    error = said.getvalue().splitlines()[-1]
    (kept,) = (tmp_path / "tmp").iterdir()
    assert error.startswith("error: stdout: the result cannot be written (")
    assert error.endswith(f"The work is done and its files are stored; the result is in {kept}")
    assert json.loads(kept.read_text()).keys() == result.keys()
    kept.unlink()
    assert made_files(tmp_path) == whole


def failed(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_an_extra_file_that_cannot_be_written_costs_nothing_else(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results and the JSON are there; the exit code and a line say what is not."""
    prepare(tmp_path, scenes)
    extra = {tmp_path / "run/evaluation/val/logits.safetensors", tmp_path / "table.md"}
    extra |= {tmp_path / "each.json"}
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target) in extra:
            failed()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for command, lost in (("evaluate", 2), ("score", 1)):
        words = COMMANDS[command](tmp_path, scenes)
        found: Finished = run_command(*words, "--json")
        assert found.code == 3, found.err
        assert len(found.json()["not_written"]) == lost
        for line in found.json()["not_written"]:
            assert f"warning: {line}" in found.err
            assert "cannot be written (No space left on device)" in line
    assert {"results.json", "scores.json"} == {
        path.name for path in (tmp_path / "run/evaluation/val").iterdir() if path.is_file()
    }


@pytest.mark.parametrize("where", ["__init__", "add_scalar", "flush", "close"])
def test_curves_that_cannot_be_written_end_no_training(
    where: str, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer.made = []
    for module in (frozen_vqa.pipeline.train.tensorboard, frozen_vqa.pipeline.train.train):
        monkeypatch.setattr(module, "summary_writer", lambda: Writer)
    monkeypatch.setattr(Writer, where, failed)
    prepare(tmp_path, scenes)
    found = run_command(*COMMANDS["train"](tmp_path, scenes), "--tensorboard", "--json")
    assert found.code == 3, found.err
    (line,) = found.json()["not_written"]
    assert "cannot be written (No space left on device)" in line
    outcome = json.loads((tmp_path / "new" / "run.json").read_text())
    assert outcome["not_written"] == [line]
    assert run_command("evaluate", "--run", tmp_path / "new").code == 0


@pytest.mark.parametrize(
    ("redirected", "code"), [("2>&-", 0), ("2>/dev/full", 0), (">/dev/full", 1), (">&-", 1)]
)
def test_a_real_process(redirected: str, code: int, scenes: Made, tmp_path: Path) -> None:
    """Python itself flushes at the end, and a closed number would be given to the next file."""
    prepare(tmp_path, scenes)
    words = COMMANDS["score"](tmp_path, scenes)
    script = f'"$0" -m frozen_vqa.cli "$@" {redirected}'
    found = subprocess.run(
        ["sh", "-c", script, sys.executable, *map(str, words), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    assert "Exception" not in found.stderr
    assert json.loads((tmp_path / "each.json").read_text()) == {"1": 100.0}
    if code:
        (kept,) = tmp_path.glob("frozen-vqa-*.json")
        assert str(kept) in found.stderr
    else:
        assert json.loads(found.stdout)["metric"]


def test_the_console_writes_again_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Failing(BrokenPipeError()))
    console.print("lost")
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    console.print("read")
    assert said.getvalue() == "read\n"


def test_help_that_nobody_can_read_ends_in_a_sentence() -> None:
    script = '"$0" -m frozen_vqa.cli --help >/dev/full'
    found = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr.startswith("error: stdout or a file: No space left on device;")
