"""examples/vqav2.sh: from nothing to the table of four heads, killed in the middle of each step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from frozen_vqa import cli
from frozen_vqa.cache import load_manifest
from tests.support.archives import zipped
from tests.support.data_server import DataServer, serving, stall
from tests.support.pictures import encoded
from tests.support.repository import ROOT
from tests.support.vqav2_data import pattern, write_split

SCRIPT = ROOT / "examples" / "vqav2.sh"
HEADS = ("co-attention", "text-to-image", "concat", "question-only")
STEPS = ("download", "download", "extract-features", *["train-head"] * 4, "evaluate")

RECORD = """#!/bin/sh
printf '%s\\n' "$*" >> "{said}"
lines=$(wc -l < "{said}")
[ "$lines" -ne {failing} ] || exit {code}
[ "$1" != evaluate ] || echo table > "{to}/heads.md"
"""
SMALL = """#!{python}
import sys, time
from dataclasses import replace
from frozen_vqa import cli
from frozen_vqa.cache import load_manifest
from frozen_vqa.pipeline.download.catalogue import DATA_SETS

if sys.argv[1] == "download":
    for name in ("vqav2", "coco2014"):
        files = (
            replace(file, url="{base}/" + file.name, bytes=None, sha256=None)
            for file in DATA_SETS[name].files
        )
        DATA_SETS[name] = replace(DATA_SETS[name], files=tuple(files))
if sys.argv[1] == "extract-features":
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.extract import extract

    extract.extract.__kwdefaults__["shard_bytes"] = 50_000  # a few pictures
    encode = ImageEncoder.encode

    def slowly(self, pixels):
        time.sleep(0.2)
        return encode(self, pixels)

    ImageEncoder.encode = slowly
cli.main()
"""


def program(folder: Path, text: str) -> dict[str, str]:
    """Write what stands for `frozen-vqa`; return the environment in which it is found."""
    folder.mkdir(exist_ok=True)
    file = folder / "frozen-vqa"
    file.write_text(text)
    file.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def dry_run(
    tmp_path: Path, failing: int = 0, code: int = 0, name: str = "to"
) -> tuple[int, list[str]]:
    """Run the script with a program that only notes its arguments, and fails once."""
    said, to = tmp_path / "said", tmp_path / name
    to.mkdir(exist_ok=True)
    said.write_text("")
    text = RECORD.format(said=said, to=to, failing=failing, code=code)
    done = subprocess.run(
        ["sh", SCRIPT, name],
        env=program(tmp_path / "bin", text),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    return done.returncode, said.read_text().splitlines()


def test_each_step_is_a_command_that_we_take(tmp_path: Path) -> None:
    code, said = dry_run(tmp_path)
    assert code == 0
    assert [line.split()[0] for line in said] == list(STEPS)
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for line in said:
        name, *words = line.split()
        commands[name].make_context(name, words)
    for head in HEADS:
        assert sum(f"runs/{head}" in line for line in said) == 2


@pytest.mark.parametrize("name", ["-to", "--run", "a b", "é *"])
def test_a_folder_of_any_name_is_one_word_and_no_option(name: str, tmp_path: Path) -> None:
    code, said = dry_run(tmp_path, name=name)
    assert code == 0
    there = f"./{name}" if name.startswith("-") else name
    assert all(f"{there}/" in line for line in said)
    assert not any(f" {name}/" in line for line in said if name.startswith("-"))


def test_a_run_goes_on_if_it_has_something_to_go_on_from(tmp_path: Path) -> None:
    runs = tmp_path / "to" / "runs"
    begun = ("config.json", "run.json", "state/state.next.safetensors")  # killed in the first save
    for head, files in zip(
        HEADS,
        ((), begun, (*begun, "state/state.safetensors"), (*begun, "model.safetensors")),
        strict=True,
    ):
        for name in files:
            (runs / head / name).parent.mkdir(parents=True, exist_ok=True)
            (runs / head / name).write_text("{}")
    _, said = dry_run(tmp_path)
    ends = [line.split()[-1] for line in said if line.startswith("train-head")]
    assert ends == ["--overwrite", "--overwrite", "--resume", "--resume"]


def test_a_step_that_fails_is_the_last_and_one_that_left_inputs_out_is_not(tmp_path: Path) -> None:
    for number in range(1, len(STEPS) + 1):
        code, said = dry_run(tmp_path, failing=number, code=1)
        assert (code != 0, len(said)) == (True, number)
    assert [dry_run(tmp_path, failing=n, code=3)[0] for n in (1, 3, 5)] == [0, 0, 0]
    without = subprocess.run(["sh", SCRIPT], capture_output=True, text=True, check=False)
    assert without.returncode != 0
    assert "give a folder" in without.stderr


def official_archives(folder: Path) -> dict[str, bytes]:
    """Return what the owners' servers have, with few small pictures."""
    served: dict[str, dict[str, bytes]] = {}
    for split, first, count in (("train2014", 1, 24), ("val2014", 101, 8)):
        ids = range(first, first + count)
        pictures = {i: encoded(Image.fromarray(pattern(i)), "JPEG") for i in ids}
        write_split(folder, split, pictures)
        served[f"/{split}.zip"] = {
            f"{split}/{file.name}": file.read_bytes() for file in (folder / split).iterdir()
        }
        short = split.removesuffix("2014").capitalize()
        for kind, name in (
            ("Questions", f"v2_OpenEnded_mscoco_{split}_questions.json"),
            ("Annotations", f"v2_mscoco_{split}_annotations.json"),
        ):
            served[f"/v2_{kind}_{short}_mscoco.zip"] = {name: (folder / name).read_bytes()}
    served["/v2_Questions_Test_mscoco.zip"] = {"v2_OpenEnded_mscoco_test2015_questions.json": b"{}"}
    return {path: zipped(files) for path, files in served.items()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DataServer]:
    with serving() as found:
        found.files.update(official_archives(tmp_path / "official"))
        yield found


@contextmanager
def running(script: Path, to: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the script with its steps in a group of its own, which is killed in the end."""
    process = subprocess.Popen(["sh", script, to], env=env, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def versions(files: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return what changes when a file is written again."""
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def stored_shards(cache: Path) -> list[Path]:
    """Return the shards of pictures that a cache lists; what it does not list is made again."""
    if not (cache / "cache.json").exists():
        return []
    return [cache / record.file for record in load_manifest(cache).images]


def wait_for(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, "the script ended too early"
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_each_step_it_goes_on_to_the_table(server: DataServer, tmp_path: Path) -> None:
    text = SCRIPT.read_text()
    for was, now in (
        ("facebook/dinov2-base", "tiny"),
        ("meta-llama/Llama-3.2-1B", "tiny"),
        ("--width 1024", "--width 16 --epochs 4 --batch-size 16 --min-answer-count 1"),
    ):
        assert was in text
        text = text.replace(was, now)
    script, to = tmp_path / "vqav2.sh", tmp_path / "to"
    script.write_text(text)
    env = program(tmp_path / "bin", SMALL.format(python=sys.executable, base=server.base))
    env["XDG_CACHE_HOME"] = str(tmp_path / "home")
    server.faults["/train2014.zip"] = [stall(2000, 60)]

    part = to / "VQA" / ".download" / "coco2014-train2014.zip.partial"
    with running(script, to, env) as process:
        wait_for(process, lambda: part.exists() and part.stat().st_size == 2000)
    assert not (to / "features").exists()

    with running(script, to, env) as process:
        wait_for(process, lambda: len(stored_shards(to / "features")) > 1)
    assert server.ranges("/train2014.zip")[-1] == "bytes=2000-"
    assert not (to / "runs").exists()
    stored = versions(stored_shards(to / "features"))
    asked = len(server.asked)

    state = to / "runs" / HEADS[1] / "state" / "state.safetensors"
    with running(script, to, env) as process:
        wait_for(process, state.exists)
    assert len(server.asked) == asked  # all was there
    assert versions(stored) == stored
    assert len(stored_shards(to / "features")) > len(stored)
    first = versions([to / "runs" / HEADS[0] / "model.safetensors"])
    assert state.exists()

    done = subprocess.run(["sh", script, to], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert versions(first) == first
    assert all(head in done.stdout for head in HEADS)
    assert (to / "heads.md").read_text() in done.stdout
    assert (to / "runs" / HEADS[0] / "evaluation" / "val" / "report.html").exists()
    assert f"{to}/runs/{HEADS[1]} --fusion {HEADS[1]}" in done.stderr
    assert "--no-report --resume" in done.stderr
