"""Extractions and trainings that are killed at random instants and then resumed."""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.torture.disturbed import Extraction, ended, fork, killed, resumed, tree, undisturbed
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.runs.state import has_state
from frozen_vqa.pipeline.system import saver
from frozen_vqa.pipeline.system.console import progress
from frozen_vqa.pipeline.train import loop, train

TRAINING = TrainConfig(
    width=64, epochs=8, batch_size=32, accumulate=2, dropout=0.2, min_answer_count=1
)
TRAIN_CHECKPOINT = 0.05
TIMES = ("seconds", "questions_per_second", "data_wait_fraction", "waited", "xxh3")


def kills(count: int, extraction: Extraction, scratch: Path, rng: random.Random) -> dict[str, int]:
    """Kill at random instants; resume; compare."""
    whole, seconds = undisturbed(extraction, scratch)
    found = Counter(run=0, identical=0, killed=0)
    with progress("kills", count) as advance:
        for _ in range(count):
            cache = scratch / "killed"
            for _ in range(rng.choice((1, 1, 2))):
                found["killed"] += killed(extraction, cache, rng.uniform(0, seconds))
            found["identical"] += resumed(extraction, cache, whole)
            found["run"] += 1
            shutil.rmtree(cache)
            advance(1, note=f"{found['identical']} identical")
    return dict(found)


def trained(cache: Path, run: Path, *, killed_after: float | None = None) -> int:
    """Train in a child, or go on with what is there; return how it ended."""

    def work() -> None:
        loop.CHECKPOINT_SECONDS, saver.SHARE = TRAIN_CHECKPOINT, 1.0
        begun = has_state(run) or (run / "model.safetensors").exists()
        cpu = torch.device("cpu")
        train.train(cache, run, config=TRAINING, device=cpu, overwrite=not begun, resume=begun)

    pid = fork(work)
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(pid, signal.SIGKILL)
    return ended(pid)


def without_times(run: Path) -> dict[str, Any]:
    """Return the content of every file of a run, but for how long it took."""
    found: dict[str, Any] = tree(run)
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    lines.append(json.loads(found.pop("run.json")))
    found["metrics.jsonl"] = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return found


def train_kills(
    count: int, extraction: Extraction, scratch: Path, rng: random.Random
) -> dict[str, int]:
    """Kill trainings at random instants; resume; compare."""
    cache, run = scratch / "cache", scratch / "run"
    extraction.run(cache)
    for _ in range(2):  # the first finds cold files
        shutil.rmtree(run, ignore_errors=True)
        started = time.monotonic()
        assert trained(cache, run) == 0, "the undisturbed training failed"
        seconds = time.monotonic() - started
    whole = without_times(run)
    found = Counter(run=0, identical=0, killed=0)
    with progress("train kills", count) as advance:
        for _ in range(count):
            shutil.rmtree(run)
            times = rng.randint(1, 3)
            for _ in range(times):
                after = rng.uniform(0, seconds / times)
                found["killed"] += trained(cache, run, killed_after=after) == -signal.SIGKILL
            found["identical"] += trained(cache, run) == 0 and without_times(run) == whole
            found["run"] += 1
            advance(1, note=f"{found['identical']} identical")
    return dict(found)
