"""The command line before any work: help at once, and wrong usage told with exit code 2."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from frozen_vqa.pipeline.config import PRESETS
from tests.support.command import Finished, run_command
from tests.support.repository import ROOT
from tests.support.tiny_commands import _home  # noqa: F401  (a fixture)

COMMANDS = (
    "extract-features",
    "check-data",
    "train-head",
    "evaluate",
    "score",
    "ask",
    "serve",
    "inspect-cache",
    "verify-cache",
    "convert-cache",
    "download",
    "push",
    "pull",
    "runs",
    "doctor",
    "demo",
)
HEAVY = ("torch", "numpy", "h5py", "transformers", "datasets", "PIL")


def usage_of(found: Finished) -> str:
    """Return the complaint about wrong usage."""
    assert found.code == 2, found
    assert found.out == ""
    assert "Traceback" not in found.err
    assert found.err.startswith("Usage: ")
    assert "error: " not in found.err
    return found.err.splitlines()[-1]


# Help


@pytest.mark.parametrize("words", [(), *((command,) for command in COMMANDS)])
def test_help_names_the_options(words: tuple[str, ...]) -> None:
    found = run_command(*words, "--help")
    assert (found.code, found.err) == (0, "")
    assert re.match(rf"Usage: .*frozen-vqa{''.join(f' {word}' for word in words)} \[", found.out)
    wanted = COMMANDS if not words else ("--port",) if words == ("serve",) else ("--json",)
    for word in wanted:
        assert re.search(rf"^ +{word}\b", found.out, re.MULTILINE), word


def test_every_command_is_known_here() -> None:
    listed = run_command("--help").out
    assert set(re.findall(r"^  ([a-z][a-z-]+)  ", listed, re.MULTILINE)) == set(COMMANDS)


def test_help_of_the_script_in_a_process_of_its_own() -> None:
    found = subprocess.run(
        [sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "Usage: cli.py " in found.stdout
    for command in COMMANDS:
        assert f"  {command} " in found.stdout


def test_help_loads_nothing_heavy() -> None:
    """All helps in one process, which then lists what it has loaded."""
    script = f"""
import contextlib, io, sys
from frozen_vqa import cli
for words in [[], *([command] for command in {COMMANDS!r})]:
    sys.argv = ["frozen-vqa", *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, words
    assert out.getvalue().startswith("Usage: "), words
print(*sorted({HEAVY!r} & sys.modules.keys() | {{"pipeline", "cache"}} & sys.modules.keys()))
""".replace(f"{HEAVY!r}", f"set({HEAVY!r})")
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr, found.stdout) == (0, "", "\n")


def test_without_a_command_it_shows_its_help() -> None:
    found = run_command()
    assert found.code == 2
    assert "frozen-vqa [OPTIONS] COMMAND" in found.out + found.err
    for command in COMMANDS:
        assert command in found.out + found.err


def test_the_presets_are_those_that_help_shows() -> None:
    shown = run_command("train-head", "--help").out
    assert f"<{'|'.join(PRESETS)}>" in shown


# Wrong usage: exit code 2

EXTRACT = ("extract-features", "--dataset", "shapes", "--split", "train", "--cache", "c")
TRAIN = ("train-head", "--cache", "c", "--run", "r")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("extract",), r"No such command 'extract'"),
        (("--verbose",), r"No such option: --verbose"),
        ((*TRAIN, "--epoch", "3"), r"No such option: --epoch.*--epochs"),
        ((*TRAIN, "--fusion", "sum"), r"'sum' is not one of co-attention, .*MODULE:NAME"),
        ((*TRAIN, "--epochs", "many"), r"'--epochs'.*integer"),
        ((*TRAIN, "--lr", "fast"), r"'--lr'.*number"),
        (("train-head", "--cache", "c"), r"Missing option '--run'"),
        (("inspect-cache",), r"Missing option '--cache'"),
        ((*EXTRACT, "--limit", "0"), r"'--limit'.*1"),
        (
            (*EXTRACT, "--batch-size", "0"),
            r"--batch-size is '0'; it must be auto or a number from 1",
        ),
        ((*EXTRACT, "--batch-size", "-3"), r"--batch-size is '-3'; it must be auto or a number"),
        ((*EXTRACT, "--batch-size", "big"), r"--batch-size is 'big'; it must be auto or a number"),
        ((*EXTRACT, "--batch-size", "1.5"), r"--batch-size is '1\.5'; it must be auto or a number"),
        ((*EXTRACT, "--column", "question"), r"--column is 'question'; .* like question=query"),
        ((*EXTRACT, "--column", "=query"), r"--column is '=query'; .* like question=query"),
        ((*EXTRACT, "--fit", "squeeze"), r"'squeeze' is not one of 'whole', 'crop'"),
        ((*EXTRACT, "--dtype", "int4"), r"'int4' is not one of 'float16', 'bfloat16'"),
        ((*EXTRACT, "--image-size", "big"), r"'--image-size': 'big' is not a size of pictures"),
        (("evaluate", "--run", "r", "--metric", "2019"), r"'2019' is not one of '2021', '2017'"),
        (
            ("ask", "--run", "r", "--image", "i", "--question", "q", "--top", "0"),
            r"'--top'.*1",
        ),
    ],
)
def test_wrong_usage(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(said, usage_of(run_command(*words)))
    assert list(tmp_path.iterdir()) == []
