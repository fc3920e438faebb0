"""The rows of docs/bad-inputs.md about the system: environment, folders, memory."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from tests.support.bad_inputs import REFUSED, Row
from tests.support.bad_options import EVALUATE, EXTRACT, TRAIN, make_inputs, run_in


def environment(words: str, **values: str) -> Any:
    """A case of a command with these environment variables."""

    def make(folder: Path) -> Row:
        make_inputs(folder, run=words == EVALUATE)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, value)
            outcome, line = run_in(folder, words)
        return outcome, line.removeprefix(f"rank {values.get('RANK')}: ")

    return make


def no_memory(words: str, place: str, error: Exception) -> Any:
    """A case of a command in which `place` fails for want of memory."""

    def fail(*_: object, **__: object) -> None:
        raise error

    def make(folder: Path) -> Row:
        make_inputs(folder, run=words == EVALUATE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, fail)
            return run_in(folder, words)

    return make


def library_number(folder: Path) -> Row:
    error = ValueError("invalid literal for int() with base 10: 'ten s'")  # as at an import
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_ETAG_TIMEOUT", "ten s")
        return no_memory(EXTRACT, DATA_READING, error)(folder)


def removed_folder(folder: Path) -> Row:
    before = Path.cwd()
    (folder / "here").mkdir()
    os.chdir(folder / "here")
    shutil.rmtree(folder / "here")
    try:
        return run_in(folder, "inspect-cache DATA/c")
    finally:
        os.chdir(before)


def tiny_at(**values: str | None) -> Any:
    """A case of the tiny encoders, which are kept in the user's cache folder."""

    def make(folder: Path) -> Row:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("XDG_CACHE_HOME", raising=False)
            patch.setattr("os.path.expanduser", lambda path: path)  # as for a user without a home
            for name, value in values.items():
                patch.setenv(name, (value or "").replace("DATA", str(folder)))
            (folder / "file").touch()
            with pytest.raises(ModelError) as caught:
                tiny_checkpoint("vision")
        return REFUSED, str(caught.value)

    return make


CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 400000000000 bytes. Error code 12 (Cannot allocate memory)"
)
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
DATA_READING = "frozen_vqa.pipeline.commands.extract_features.read_questions"
TRAIN_DATA = "frozen_vqa.pipeline.commands.train_head.load_train_data"
STEP = "frozen_vqa.pipeline.train.train.Trainer"
HEAD = "frozen_vqa.pipeline.runs.run.load_weights"

SYSTEM: dict[str, Callable[[Path], Row]] = {
    "working folder that was removed": removed_folder,
    "no HOME, and no name of the user": tiny_at(),
    "XDG_CACHE_HOME in a file": tiny_at(XDG_CACHE_HOME="DATA/file"),
    "`~nosuchuser` in `--dataset`": environment(f"{EXTRACT} --dataset jsonl:~nosuchuser/x"),
    "RANK of no torchrun": environment(TRAIN, RANK="0", WORLD_SIZE="2", MASTER_ADDR=""),
    "RANK that is no number": environment(
        TRAIN, RANK="x", WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="1"
    ),
    "RANK beyond WORLD_SIZE": environment(
        TRAIN, RANK="2", WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="1"
    ),
    "WORLD_SIZE that is no number": environment(TRAIN, RANK="0", WORLD_SIZE="two"),
    "WORLD_SIZE 0": environment(TRAIN, RANK="0", WORLD_SIZE="0", MASTER_ADDR="", MASTER_PORT=""),
    "MASTER_PORT that is no number": environment(
        TRAIN, RANK="0", WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="http"
    ),
    "COLUMNS 0": environment("inspect-cache DATA/c", COLUMNS="0"),
    "COLUMNS 1": environment("inspect-cache DATA/c", COLUMNS="1"),
    "COLUMNS that is no number": environment("inspect-cache DATA/c", COLUMNS="x"),
    "TERM dumb": environment("inspect-cache DATA/c", TERM="dumb"),
    "TMPDIR that is not there": environment("inspect-cache DATA/c", TMPDIR="/nowhere"),
    "number of a library that is none": library_number,
    "too little memory to read questions": no_memory(EXTRACT, DATA_READING, MemoryError()),
    "too little memory to read a cache": no_memory(TRAIN, TRAIN_DATA, MemoryError()),
    "too little memory to train on a CPU": no_memory(TRAIN, STEP, CPU),
    "too little memory to train on a GPU": no_memory(TRAIN, STEP, GPU),
    "too little memory to load a head": no_memory(EVALUATE, HEAD, CPU),
    "too little memory on a GPU to load a head": no_memory(EVALUATE, HEAD, GPU),
    "too little memory to convert a cache": no_memory(
        "convert-cache DATA/c --cache DATA/new",
        "frozen_vqa.pipeline.commands.convert_cache.convert_shard",
        MemoryError("Unable to allocate 7.28 TiB for an array"),
    ),
}
