"""Flips single bits of a cache, and sees whether readers report them."""

import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.disturbed import Extraction, ended, fork, undisturbed
from frozen_vqa.cache import CacheError, FeatureCache, load_manifest
from frozen_vqa.cache.format.hdf5 import read_extents
from frozen_vqa.cache.verify import check_copies, check_file
from frozen_vqa.pipeline.system.console import console, progress

HANG_SECONDS = 5.0


@dataclass(frozen=True)
class Flip:
    """One bit of one file of a cache."""

    file: str
    byte: int
    bit: int


def flips(count: int, extraction: Extraction, scratch: Path, rng: random.Random) -> dict[str, int]:
    """Flip bits, and let a child read what is left."""
    whole, _ = undisturbed(extraction, scratch)
    chosen = choose_flips(count, scratch / "whole", whole, rng)
    found = Counter(run=0, reported=0, harmless=0, silent=0, hangs=0, crashes=0, verified=0)
    kept: list[Flip] = []
    child, ask = start_reader(scratch / "whole")
    with progress("flips", count) as advance:
        for flip in chosen:
            ask.send(flip)
            try:
                if ask.poll(HANG_SECONDS):
                    outcome, verified = ask.recv()
                else:
                    outcome, verified = "hangs", False
            except EOFError:
                outcome, verified = "crashes", False
            if outcome in ("hangs", "crashes"):
                os.kill(child, signal.SIGKILL)
                ended(child)
                child, ask = start_reader(scratch / "whole")
            found.update({"run": 1, outcome: 1, "verified": int(verified)})
            if outcome not in ("reported", "harmless") or not verified:
                kept.append(flip)
                console.print(f"{outcome}, verified {verified}: {flip}")
            advance(1)
    ask.close()
    ended(child)
    return dict(found)


def choose_flips(
    count: int, cache: Path, whole: dict[str, bytes], rng: random.Random
) -> list[Flip]:
    """Choose bits in every file: half anywhere, half in what is not a row of features."""
    marks = {file: np.ones(len(data), dtype=bool) for file, data in whole.items()}
    for record in load_manifest(cache).files:
        for name, extent in read_extents(record.datasets, record.bytes, record.file).items():
            if name in ("patch_embeddings", "cls", "hidden_states"):
                marks[record.file][extent.offset : extent.offset + extent.nbytes] = False
    outside = {file: np.flatnonzero(mark) for file, mark in marks.items()}
    files = sorted(whole)
    chosen = []
    for number in range(count):
        file = files[number % len(files)]
        byte = rng.randrange(len(whole[file])) if number % 2 else rng.choice(outside[file])
        chosen.append(Flip(file, int(byte), rng.randrange(8)))
    return chosen


def start_reader(cache: Path) -> tuple[int, Connection]:
    """Fork a child that answers each flip with what a reader and verify-cache make of it."""
    ours, theirs = Pipe()

    def work() -> None:
        ours.close()
        with tempfile.TemporaryDirectory() as folder:
            mine = Path(folder) / "cache"
            shutil.copytree(cache, mine)
            before = everything(mine)
            while True:
                try:
                    flip: Flip = theirs.recv()
                except EOFError:
                    return
                path = mine / flip.file
                data = bytearray(path.read_bytes())
                data[flip.byte] ^= 1 << flip.bit
                kept = path.read_bytes()
                path.write_bytes(data)
                theirs.send((outcome(mine, before, flip), found_by_verify(mine)))
                path.write_bytes(kept)

    pid = fork(work)
    theirs.close()
    return pid, ours


def outcome(cache: Path, before: list[Any], flip: Flip) -> str:
    """Return what becomes of a reader: "reported", "harmless" or "silent"."""
    try:
        return "harmless" if everything(cache) == before else "silent"
    except CacheError as error:
        return "reported" if str(cache / flip.file) in str(error) else "silent"


def everything(cache: Path) -> list[Any]:
    """Return all that a reader can ask for, as values that can be compared."""
    features = FeatureCache(cache)
    spec, rows = features.spec, features.manifest.image_rows
    patches = np.empty((rows, spec.patches, spec.vision_dim), spec.image_dtype)
    features.read_images(np.arange(rows), patches)
    questions = features.questions
    found: list[Any] = [spec.settings(), features.manifest.failures, features.image_ids()]
    found += [patches.tobytes(), list(questions.texts), questions.hidden_states.tobytes()]
    found += [questions.path_rows.tobytes(), questions.path_offsets.tobytes()]
    for name in features.manifest.splits:
        table = features.split(name)
        found += [name, table.question_ids, table.image_rows.tolist(), table.answers]
        found += [table.question_rows.tolist(), table.question_types, table.answer_types]
    return found


def found_by_verify(cache: Path) -> bool:
    """Whether verify-cache finds something."""
    try:
        manifest = load_manifest(cache)
    except CacheError:
        return True
    damage = [check_file(cache, manifest, record) for record in manifest.files]
    return any(damage) or bool(check_copies(cache, manifest))
