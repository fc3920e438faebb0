"""The rows of docs/bad-inputs.md about options and settings: a case for each runs a command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.bad_inputs import REFUSED, Row
from tests.support.caches import Row as Question
from tests.support.caches import make_cache
from tests.support.command import run_command
from tests.support.heads import make_run

USAGE, TAKEN = "refused, exit 2", "taken"
OUTCOMES = {1: REFUSED, 2: USAGE, 0: TAKEN}

PLAIN = "train-head --cache DATA/c --run DATA/new"
TRAIN = f"{PLAIN} --width 8 --min-answer-count 1"
EXTRACT = "extract-features --dataset jsonl:DATA --split train --cache DATA/new"
EVALUATE = "evaluate --run DATA/run"
ASK = "ask --run DATA/run --image DATA/a.png --question what?"


def run_in(folder: Path, words: str, *more: str) -> Row:
    """Run a command whose words name the folder DATA; return its outcome and its one line."""
    found = run_command(*(word.replace("DATA", str(folder)) for word in (*words.split(), *more)))
    line = found.err.splitlines()[-1] if found.code else "as it is"
    return OUTCOMES[found.code], line.removeprefix("error: ").removeprefix("Error: ")


def make_inputs(folder: Path, *, run: bool = False) -> None:
    """Write a cache with splits train, val and test (without answers), a picture, and a run."""
    rows = [Question(0, 0, ("dog",)), Question(1, 1, ("cat",))]
    made = make_cache(folder / "c", {"train": rows, "val": rows, "test": [Question(0, 1)]})
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    line = '{"image": "a.png", "question": "what?", "answer": "dog"}\n'
    (folder / "train.jsonl").write_text(line)
    if run:
        make_run(made, folder / "run")


def option(words: str, *more: str, run: bool = False) -> Any:
    """A case of a command line; what `more` holds is a word each."""

    def make(folder: Path) -> Row:
        make_inputs(folder, run=run)
        return run_in(folder, words, *more)

    return make


def setting(content: bytes | str, name: str = "--config") -> Any:
    """A case of a file of settings."""

    def make(folder: Path) -> Row:
        make_inputs(folder)
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "head.toml").write_bytes(data)
        return run_in(folder, f"{PLAIN} {name} DATA/head.toml")

    return make


def accepted(content: bytes) -> Any:
    """A case of a file of settings that is read; the command ends at the splits that it names."""

    def make(folder: Path) -> Row:
        _, line = setting(content)(folder)
        assert "there is no split 'mine'" in line
        return TAKEN, "as it is"

    return make


def too_large(folder: Path) -> Row:
    make_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frozen_vqa.pipeline.train.train.free_memory", lambda: 16 * 10**9)
        return run_in(folder, TRAIN, "--width", "100000", "--layers", "100", "--device", "cpu")


OPTIONS: dict[str, Callable[[Path], Row]] = {
    "`--width` -1": option(TRAIN, "--width=-1"),
    "`--width` 1000000000": option(TRAIN, "--width=1000000000"),
    "`--width` that is no multiple of the heads": option(TRAIN, "--width=10"),
    "head that exceeds the memory": too_large,
    "`--layers` 0": option(TRAIN, "--layers=0"),
    "`--layers` of 31 digits": option(TRAIN, f"--layers={10**30}"),
    "`--epochs` 0": option(TRAIN, "--epochs=0"),
    "`--epochs` of 31 digits": option(TRAIN, f"--epochs={10**30}"),
    "`--patience` -1": option(TRAIN, "--patience=-1"),
    "`--batch-size` 0 in training": option(TRAIN, "--batch-size=0"),
    "`--batch-size` of 31 digits in training": option(TRAIN, f"--batch-size={10**30}"),
    "`--accumulate` 0": option(TRAIN, "--accumulate=0"),
    "`--lr` 0": option(TRAIN, "--lr=0"),
    "`--lr` nan": option(TRAIN, "--lr=nan"),
    "`--lr` inf": option(TRAIN, "--lr=inf"),
    "`--lr` 1e400": option(TRAIN, "--lr=1e400"),
    "`--ema` 1": option(TRAIN, "--ema=1"),
    "`--ema` nan": option(TRAIN, "--ema=nan"),
    "`--seed` -1": option(TRAIN, "--seed=-1"),
    "`--seed` of 31 digits": option(TRAIN, f"--seed={10**30}"),
    "`--order-seed` -1": option(TRAIN, "--order-seed=-1"),
    "`--min-answer-count` 0": option(TRAIN, "--min-answer-count=0"),
    "`--min-answer-count` that no answer has": option(TRAIN, "--min-answer-count=1000"),
    "`--train-split` that is not there": option(TRAIN, "--train-split=trian"),
    "`--val-split` without answers": option(TRAIN, "--val-split=test"),
    "`--answers` that is not there": option(PLAIN, "--answers=DATA/no.txt"),
    "`--answers` that is no list of answers": option(PLAIN, "--answers=DATA/c/cache.json"),
    "`--config` that is not there": option(TRAIN, "--config=DATA/no.toml"),
    "`--config` with `--sweep`": option(TRAIN, "--config=a", "--sweep=b"),
    "`--resume` with `--overwrite`": option(TRAIN, "--resume", "--overwrite"),
    "`--resume` without a run": option(TRAIN, "--resume"),
    "setting of no name": setting("epoch = 3"),
    "setting in a table": setting("[model]\nwidth = 8"),
    "text for a number": setting("epochs = '3'"),
    "float for a whole number": setting("epochs = 3.0"),
    "date for a number": setting("epochs = 1979-05-27"),
    "list without `--sweep`": setting("lr = [0.1, 0.2]"),
    "number of 5,000 digits": setting("epochs = 1" + "0" * 5000),
    "whole number of 400 digits for a float": setting("lr = 1" + "0" * 400),
    "setting twice": setting("epochs = 3\nepochs = 4"),
    "TOML in UTF-16": setting("epochs = 3".encode("utf-16")),
    "TOML with a byte order mark": accepted(b"\xef\xbb\xbftrain_split = 'mine'\n"),
    "TOML with lines of Windows": accepted(b"epochs = 3\r\ntrain_split = 'mine'\r\n"),
    "sweep with an empty list": setting("lr = []", "--sweep"),
    "sweep of 10,000 heads": setting(
        f"seed = {list(range(100))}\norder_seed = 0\nlr = {[1e-3] * 100}", "--sweep"
    ),
    "sweep with `[head]`": setting("[head]\nlr = 0.1", "--sweep"),
    "sweep whose heads need other batches": setting("batch_size = [2, 4]", "--sweep"),
    "sweep with a head twice": setting("[[head]]\nname = 'a'\n[[head]]\nname = 'a'", "--sweep"),
    "`--dataset` of no form": option(EXTRACT, "--dataset=jsnl:DATA"),
    "`--dataset` without a path": option(EXTRACT, "--dataset=jsonl:"),
    "`shapes:` 0": option(EXTRACT, "--dataset=shapes:0"),
    "`shapes:` of more than a million": option(EXTRACT, "--dataset=shapes:1000001"),
    "`--column` for another form": option(EXTRACT, "--dataset=shapes:2", "--column=question=q"),
    "`--column` of no field": option(EXTRACT, "--dataset=hub:DATA", "--column=queston=q"),
    "`--column` without =": option(EXTRACT, "--column=question"),
    "`--batch-size` 0": option(EXTRACT, "--batch-size=0"),
    "`--batch-size` 1000000000": option(EXTRACT, "--batch-size=1000000000"),
    "`--vision-model` that is not there": option(EXTRACT, "--vision-model=DATA/no"),
    "`--text-model` that is no model": option(EXTRACT, "--text-model=DATA"),
    "`--table` of another ending": option(EVALUATE, "--table=DATA/x.txt", run=True),
    "`--ensemble` with two runs": option(EVALUATE, "--run=a", "--ensemble=b"),
    "`--compare` that is no run": option(EVALUATE, "--compare=DATA/no", run=True),
    "`--question` of spaces": option(ASK, "--question", " ", run=True),
    "`--question` that is not UTF-8": option(ASK, "--question=caf\udce9", run=True),
    "`--image` that is not there": option(ASK, "--image=DATA/no.png", run=True),
    "`--per-question` that names no file": option(
        "score --predictions DATA/a.png --annotations DATA/a.png", "--per-question="
    ),
    "`convert-cache` to a larger type": option(
        "convert-cache DATA/c --cache DATA/new --dtype float32"
    ),
}
