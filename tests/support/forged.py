"""Forged inputs: a valid folder, one change to it that a stranger could make, and who reads it.

`READERS` says for each kind what of the valid folder a case needs, and which commands read it. A
command is a line in which @ is the folder; whatever it may write lies in `WRITTEN`. The changes are
in `forged_table.py`, each a function of the folder.
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.runs.sealed import digest_json
from frozen_vqa.pipeline.train import loop
from frozen_vqa.pipeline.train.train import train
from tests.support.attack import SECRET, SECRET_WORD, attack
from tests.support.caches import make_scenes
from tests.support.command import run_command
from tests.support.command_lines import make_inputs
from tests.support.hub_data import row, save
from tests.support.pictures import encoded, noise
from tests.support.resuming import Killed, kill_before_step
from tests.support.tiny_commands import TINY
from tests.support.vqav2_files import annotation, question, write

Change = Callable[[Path], object]

FEW = TrainConfig(width=8, heads=2, batch_size=4, epochs=2, min_answer_count=1, dropout=0.3)
TINY_MODELS = " ".join(TINY)
EXTRACT = f"extract-features --split train --cache @/new {TINY_MODELS} --dataset"
TRAIN = "train-head --cache @/cache --run @/new --epochs 1 --width 8 --min-answer-count 1"
MODELS = "extract-features --dataset shapes:2 --split val --cache @/new"
PREPARED = "prepared"
"""Where `datasets` lays files down that it has converted, in the place of its folder at home."""
WRITTEN = ("new", "run", "stopped", "extracted", "finished", PREPARED)


@dataclass(frozen=True)
class Reader:
    """Parts of the valid folder that a kind of forgery needs, and the commands that read it."""

    parts: Sequence[str]
    commands: Sequence[str]


READERS: dict[str, Reader] = {
    "cache": Reader(
        ("cache", "run"),
        (
            "inspect-cache @/cache --json",
            "verify-cache @/cache",
            "evaluate --run @/run --json",
            TRAIN,
            "convert-cache @/cache --cache @/new/converted",
        ),
    ),
    "extraction": Reader(
        ("extracted",),
        (
            "inspect-cache @/extracted/cache --json",
            EXTRACT.replace("@/new", "@/extracted/cache") + " jsonl:@/extracted/data",
        ),
    ),
    "run": Reader(
        ("cache", "finished"),
        ("evaluate --run @/finished --json", "evaluate --run @/finished --table @/new/t.md"),
    ),
    "weights": Reader(("cache", "finished"), ("evaluate --run @/finished --json",)),
    "state": Reader(("cache", "stopped"), ("train-head --cache @/cache --run @/stopped --resume",)),
    "ask": Reader(("asked", "data"), ("ask --run @/asked --image @/data/a.png --question what?",)),
    "jsonl": Reader(("data",), (f"{EXTRACT} jsonl:@/data --dry-run",)),
    "picture": Reader(("data",), (f"{EXTRACT} jsonl:@/data",)),
    "vqav2": Reader(("vqav2",), (f"{EXTRACT} vqav2:@/vqav2 --dry-run",)),
    "hub": Reader(("hub",), (f"{EXTRACT} hub:@/hub --dry-run",)),
    "vision": Reader(("vision",), (f"{MODELS} --text-model tiny --vision-model @/vision",)),
    "text": Reader(("text",), (f"{MODELS} --vision-model tiny --text-model @/text",)),
    "config": Reader(("cache", "config.toml"), (f"{TRAIN} --config @/config.toml",)),
    "sweep": Reader(("cache", "sweep.toml"), (f"{TRAIN} --sweep @/sweep.toml",)),
    "answers": Reader(
        ("cache", "answers.txt"),
        (f"{TRAIN.replace(' --min-answer-count 1', '')} --answers @/answers.txt",),
    ),
    "score": Reader(
        ("data",), ("score --predictions @/data/results.json --annotations @/data/given.json",)
    ),
}


@cache
def _home() -> Path:
    folder = Path(tempfile.mkdtemp()).resolve()
    atexit.register(shutil.rmtree, folder)
    datasets.disable_progress_bars()
    # What is imported at its first use is no cost of the input that uses it first.
    ImageEncoder("tiny"), TextEncoder("tiny")
    return folder


@cache
def valid(part: str) -> Path:
    """Return one of the valid things, a file or a folder, which a process makes once."""
    path = _home() / part
    PARTS[part](path)
    return path


def _train(path: Path, *, stop: bool) -> None:
    """Train a head, with a state after each step; stop before the third, or not at all."""
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(loop.TrainingLoop, "save_is_due", True)
        if stop:
            kill_before_step(2, patch)
        train(valid("cache"), path, config=FEW, device=torch.device("cpu"))


def _finish(path: Path) -> None:
    shutil.copytree(valid("run"), path)
    assert run_command("evaluate", "--run", path, "--save-logits").code == 0


def _data(path: Path) -> None:
    make_inputs(path.parent)


def _extract(path: Path) -> None:
    """A cache of two pictures, one of which is lost, beside its data."""
    shutil.copytree(valid("data"), path / "data")
    with (path / "data/train.jsonl").open("a") as file:
        file.write(json.dumps({"image": "lost.png", "question": "q", "answer": "a"}) + "\n")
    words = ("--split", "train", "--cache", path / "cache", *TINY)
    assert run_command("extract-features", "--dataset", f"jsonl:{path / 'data'}", *words).code == 3


def _ask(path: Path) -> None:
    words = ("--epochs", 1, "--width", 8, "--min-answer-count", 1, "--val-split", "train")
    cache = valid("extracted") / "cache"
    assert run_command("train-head", "--cache", cache, "--run", path, *words).code == 0


def _vqav2(path: Path) -> None:
    pictures = path / "train2014"
    pictures.mkdir(parents=True)
    write(
        path,
        "train",
        [question(42001, 42), question(7000, 7, "Is it red?")],
        [annotation(7000, 7, ["no", "yes"]), annotation(42001, 42, ["dog"] * 10)],
    )
    for number in (42, 7):
        (pictures / f"COCO_train2014_{number:012}.jpg").write_bytes(encoded(noise(20, 20), "JPEG"))


def _csv(path: Path) -> None:
    path.mkdir()
    (path / "train.csv").write_text('question,answers,image\nq?,a,b.png\n"q, q",b,b.png\n')


def _pictures(path: Path) -> None:
    path.mkdir()
    for form in ("png", "jpeg", "gif", "tiff", "webp", "bmp", "ppm"):
        noise(12, 9).save(path / f"a.{form}")


PARTS: dict[str, Callable[[Path], object]] = {
    "cache": lambda path: make_scenes(path, train=6, val=2),
    "run": partial(_train, stop=False),
    "stopped": partial(_train, stop=True),
    "finished": _finish,
    "data": _data,
    "extracted": _extract,
    "asked": _ask,
    "vqav2": _vqav2,
    "hub": lambda path: save(
        path / "train.parquet", [row(1, 1, "red", ["a"] * 10), row(2, 2, "blue", ["b"])]
    ),
    "csv": _csv,
    "pictures": _pictures,
    "vision": lambda path: shutil.copytree(tiny_checkpoint("vision"), path),
    "text": lambda path: shutil.copytree(tiny_checkpoint("text"), path),
    "config.toml": lambda path: path.write_text(FEW.to_toml()),
    "sweep.toml": lambda path: path.write_text("epochs = 1\nlr = [0.01, 0.02]\n"),
    "answers.txt": lambda path: path.write_text("red\nblue\n"),
}
"""How each valid thing is made."""


def lay_out(kind: str, place: Path) -> None:
    """Copy what a kind of forgery needs to `place`, with a secret beside it."""
    copy_parts(READERS[kind].parts, place)
    trained = {"run": place, "stopped": place, "finished": place}
    for run, near in {**trained, "asked": None}.items():
        if (place / run / "run.json").exists():
            cache = near or valid("extracted")
            edit_sealed(
                place / run / "run.json",
                lambda found, cache=cache: found.update(cache=str(cache / "cache")),  # type: ignore[misc]
            )
    secret = place / SECRET
    (secret / "folder").mkdir(parents=True)
    for name in ("file", "folder/results.json", "folder/00000.h5", "folder/a.png"):
        (secret / name).write_text(SECRET_WORD)


def copy_parts(parts: Sequence[str], place: Path) -> None:
    """Copy valid things to a place."""
    for part in parts:
        source = valid(part)
        if source.is_dir():
            shutil.copytree(source, place / part)
        else:
            shutil.copyfile(source, place / part)


def run_case(kind: str, change: Change, place: Path) -> list[str]:
    """Forge an input, run the commands of its kind, and raise on harm; return what refused it."""
    lay_out(kind, place)
    change(place)
    writes = [place / part for part in WRITTEN]
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / PREPARED)
        for line in READERS[kind].commands:
            words = [word.replace("@", str(place)) for word in line.split()]
            found = attack(*words, place=place, writes=writes)
            said.append(found.require_harmless())
            shutil.rmtree(place / "new", ignore_errors=True)
    return said


def edit_sealed(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file that carries its digest, and give it the digest of what it holds now."""
    value = json.loads(path.read_bytes())
    value.pop("xxh3", None)
    change(value)
    if isinstance(value, dict):
        value["xxh3"] = digest_json(value)
    path.write_text(json.dumps(value))


def replace_by(kind: str) -> Callable[[Path], object]:
    """Return what puts something else in the place of a path."""

    def change(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        SPECIAL[kind](path)

    return change


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 << 30)


def _beside(path: Path, name: str) -> Path:
    """Return the secret of the place in which a path lies."""
    return next(p / SECRET / name for p in path.parents if (p / SECRET).is_dir())


SPECIAL: dict[str, Change] = {
    "nothing": lambda path: None,
    "an empty file": lambda path: path.touch(),
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "5 GB of zeros": _sparse,
    "a link to a secret": lambda path: path.symlink_to(_beside(path, "file")),
    "a link to a secret folder": lambda path: path.symlink_to(_beside(path, "folder")),
    "a link to nowhere": lambda path: path.symlink_to(path.parent / "nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}
"""What can stand in the place of any file."""
