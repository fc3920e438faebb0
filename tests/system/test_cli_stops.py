"""Bugs keep their traceback; Ctrl-C and SIGTERM say how to go on, and going on works."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import frozen_vqa.pipeline.commands.extract_features
import frozen_vqa.pipeline.commands.inspect_cache
from frozen_vqa.cache import load_manifest
from tests.support import ranks_worker
from tests.support.command import run_command
from tests.support.frozen import files
from tests.support.repository import ROOT
from tests.support.tiny_commands import (
    _home,  # noqa: F401  (a fixture)
    extract,
)


def test_a_bug_keeps_its_traceback(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(frozen_vqa.pipeline.commands.inspect_cache, "inspect_command", broken)
    with pytest.raises(RuntimeError, match=r"^a mistake of ours$"):
        run_command("inspect-cache", place / "cache")


def test_a_bug_in_a_process_of_its_own_shows_where_it_is() -> None:
    script = """
import sys, cli, frozen_vqa.pipeline.commands.inspect_cache
def broken(_): raise RuntimeError("a mistake of ours")
frozen_vqa.pipeline.commands.inspect_cache.inspect_command = broken
sys.argv = ["frozen-vqa", "inspect-cache", "x"]
cli.main()
"""
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")
    lines = found.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: a mistake of ours"
    assert any('cli.py", line ' in line for line in lines)


def test_ctrl_c_is_130_and_says_how_to_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frozen_vqa.pipeline.commands.extract_features, "extract_command", stopped)
    found = extract(place, "--split", "train", "--json")
    assert (found.code, found.out) == (130, "")
    said, _, command = found.err.partition(" To go on: ")
    assert said == "stopped; every finished shard is stored."
    words = shlex.split(command)
    assert words[:2] == ["frozen-vqa", "extract-features"]
    assert words[-3:] == ["--split", "train", "--json"]


def test_a_real_interrupt_in_a_process_of_its_own() -> None:
    script = """
import sys, time, cli, frozen_vqa.pipeline.commands.inspect_cache
def forever(_):
    print("working", flush=True)
    for _ in range(600):
        time.sleep(0.1)
frozen_vqa.pipeline.commands.inspect_cache.inspect_command = forever
sys.argv = ["frozen-vqa", "inspect-cache", "x"]
cli.main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "working\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 130
        assert "Traceback" not in running.stderr.read()


def test_an_interrupted_extraction_goes_on(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the pictures and before the questions; then the same bytes as in one go."""
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "encode_tree", stopped)
        found = extract(tmp_path, "--split", "train", "--split", "val")
    assert found.code == 130
    assert (tmp_path / "cache" / "images" / "00000.h5").exists()

    again = extract(tmp_path, "--split", "train", "--split", "val", "--json")

    assert again.code == 0
    assert again.json()["images"] == {"total": 9, "ids": 9, "encoded": 0, "skipped": 0}
    for name in ("images/00000.h5", "questions/00000.h5", "splits/train.h5", "splits/val.h5"):
        assert (tmp_path / "cache" / name).read_bytes() == (place / "cache" / name).read_bytes()


STOPPED_IN_A_SHARD = """
import sys, time
from pathlib import Path
from frozen_vqa import cli
from frozen_vqa.pipeline.commands import extract_features
from tests.support import ranks_worker
from tests.support.frozen import Images

class Slow(Images):
    def encode(self, pixels):
        if len(self.batches) == 5:
            print("working", flush=True)
            for _ in range(600):  # a signal just before one long sleep would wait for its end
                time.sleep(0.1)
        return super().encode(pixels)

ranks_worker.Images = Slow
extract_features.extract_command = lambda **how: ranks_worker.main(how["cache"])
cli.main()
"""


@pytest.mark.stops
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_extraction_leaves_whole_shards_and_says_how_to_go_on(
    number: int, code: int, tmp_path: Path
) -> None:
    words = [
        "extract-features",
        "--dataset",
        "shapes",
        "--split",
        "train",
        "--cache",
        tmp_path / "a",
    ]
    here = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_IN_A_SHARD, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "working\n"
        running.send_signal(number)
        assert running.wait(timeout=30) == code
        said = running.stderr.read()
    assert "Traceback" not in said
    command = shlex.join(["frozen-vqa", *map(str, words)])
    assert said.endswith(f"stopped; every finished shard is stored. To go on: {command}\n")

    assert not list((tmp_path / "a").rglob("*.partial"))
    manifest = load_manifest(tmp_path / "a")
    assert len(manifest.images) == 2
    ranks_worker.main(tmp_path / "a")  # the lock was given back
    ranks_worker.main(tmp_path / "undisturbed")
    assert files(tmp_path / "a") == files(tmp_path / "undisturbed")
