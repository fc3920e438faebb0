"""Runs under torture: killed, or without room, at each call that writes.

The commands that write to a run are a first training, `--resume`, `--overwrite` and `evaluate`.
"""

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.torture.disk import FULL
from benchmarks.torture.disturbed import DAMAGED, Extraction, ended, fork, tree
from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.disk.files import TEMPORARY
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.state import has_state
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.train import loop
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer

SMALL = TrainConfig(width=16, heads=2, epochs=2, batch_size=96, dropout=0.2, min_answer_count=1)
OTHER = TrainConfig(width=16, heads=2, epochs=1, batch_size=96, min_answer_count=1, seed=1)
STOP_AT = 3
"""Steps after which a training was stopped that `--resume` continues."""

CPU = torch.device("cpu")
TIMES = ("seconds", "questions_per_second", "data_wait_fraction", "waited", "xxh3", "run")
TIMED = ("run.json", "metrics.jsonl", "environment.json", "state/")
"""Files that hold times, so that no two commands write the same bytes."""

KILLED = -signal.SIGKILL
Step = Callable[[Path, Path], object]


def begin(cache: Path, run: Path) -> None:
    """Train a head, with a state after each step; a run without a state has no other way on."""
    train(cache, run, config=SMALL, device=CPU, overwrite=True)


def resume(cache: Path, run: Path) -> None:
    """Go on with a training, as a user does who finds one stopped."""
    train(cache, run, config=SMALL, device=CPU, resume=True)


def overwrite(cache: Path, run: Path) -> None:
    """Train another head in its place."""
    train(cache, run, config=OTHER, device=CPU, overwrite=True)


def score(cache: Path, run: Path) -> None:
    """Score a head, and keep its logits."""
    evaluate(load_run(run, CPU), FeatureCache(cache), "val", keep_logits=True)


COMMANDS: dict[str, tuple[str, Step]] = {
    "train-head": ("none", begin),
    "train-head --resume": ("stopped", resume),
    "train-head --overwrite": ("done", overwrite),
    "evaluate": ("done", score),
}
"""Each command: the run that it finds, and what it does."""

CALLS = ("write", "fsync", "replace", "rename", "link", "mkdir")
REMOVALS = ("unlink", "rmdir")
"""Calls to the kernel that change a file or a folder; those that remove need no room."""


def hook(names: tuple[str, ...], before: Callable[[], None], after: Callable[[], None]) -> None:
    """Let something happen around these calls in this process; before a write, half is written."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **how: Any) -> Any:
            half = 0
            if real.__name__ == "write":
                half = real(args[0], memoryview(args[1])[: len(args[1]) // 2])
                args = (args[0], memoryview(args[1])[half:])
            before()
            result = real(*args, **how)
            after()
            return result + half if half else result

        return call

    for name in names:
        setattr(os, name, around(getattr(os, name)))


def nothing() -> None:
    """Do nothing."""


def die() -> None:
    """End as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def find_no_room() -> None:
    """Raise what a full disk raises."""
    raise FULL


def child(work: Callable[[], object]) -> int:
    """Run `work` in a child; it exits with 0, 1 (an error of ours) or 70 (any other)."""

    def guarded() -> None:
        loop.TrainingLoop.save_is_due = True  # type: ignore[assignment]
        try:
            work()
        except PipelineError as error:
            raise CacheError(str(error)) from error  # which `fork` turns into 1

    return ended(fork(guarded))


def make_runs(cache: Path, scratch: Path) -> dict[str, Path]:
    """Make the runs that the commands find: none, a stopped one, and one that was scored."""
    runs = {name: scratch / name for name in ("none", "stopped", "done")}
    real = Trainer._update

    def stop(self: Trainer) -> None:
        if self.counters.step == STOP_AT:
            die()
        real(self)

    def stopped() -> None:
        Trainer._update = stop  # type: ignore[method-assign]
        begin(cache, runs["stopped"])

    def done() -> None:
        begin(cache, runs["done"])
        score(cache, runs["done"])

    assert child(stopped) == KILLED
    assert child(done) == 0
    return runs


def lay_out(source: Path, target: Path) -> None:
    """Copy a run, if there is one, to where it is disturbed."""
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)


def content(run: Path) -> dict[str, Any]:
    """Return what a run holds, but how long it took and on which machine."""
    found: dict[str, Any] = tree(run)
    found.pop("environment.json", None)
    for name in {"metrics.jsonl", "run.json"} & found.keys():
        lines = found[name].splitlines() if name == "metrics.jsonl" else [found[name]]
        parts = [json.loads(line) for line in lines]
        found[name] = [{k: v for k, v in part.items() if k not in TIMES} for part in parts]
    return found


def digests(run: Path) -> set[str]:
    """Return digests of the files of a run that hold no times and are not half written."""
    files = tree(run) if run.exists() else {}
    return {
        digest(data)
        for name, data in files.items()
        if not name.startswith(TIMED) and not name.endswith(TEMPORARY)
    }


def undisturbed(step: Step, cache: Path, run: Path, seen: Path) -> dict[str, Any]:
    """Let a command end; return what it leaves, and note in `seen` what each file ever was."""
    shutil.rmtree(seen, ignore_errors=True)
    seen.mkdir()

    def note() -> None:
        for name in digests(run):
            os.close(os.open(seen / name, os.O_CREAT))

    def work() -> None:
        note()
        hook(("replace", "rename"), nothing, note)
        step(cache, run)

    assert child(work) == 0, "the undisturbed command failed"
    return content(run)


def is_sound(run: Path, seen: Path) -> bool:
    """Whether a run has no file that never was whole, and loads or is refused in a sentence."""

    def load() -> None:
        with suppress(PipelineError):
            load_run(run, CPU)

    return digests(run) <= {path.name for path in seen.iterdir()} and child(load) == 0


def way_on(step: Step, run: Path) -> Step:
    """Return what a user does after this command was disturbed."""
    if step not in (begin, resume):
        return step
    return resume if has_state(run) or (run / "model.safetensors").exists() else begin


def at_each_call(
    name: str,
    happens: Callable[[], None],
    runs: dict[str, Path],
    cache: Path,
    scratch: Path,
    *,
    every: int,
) -> dict[str, int]:
    """Disturb a command at each call in turn (one of `every`), see what it leaves, and go on."""
    (start, step), run, seen = COMMANDS[name], scratch / "torn", scratch / "seen"
    calls = (*CALLS, *REMOVALS) if happens is die else CALLS
    lay_out(runs[start], run)
    whole = undisturbed(step, cache, run, seen)
    found: Counter[str] = Counter(calls=0, stopped=0, sound=0, recovered=0)
    mark, number = scratch / "to-its-end", 1 - every
    while not mark.exists():
        number += every
        lay_out(runs[start], run)

        def work(left: int = number) -> None:
            def count() -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    happens()

            hook(calls, count, nothing)
            step(cache, run)
            if left > 0:
                mark.touch()

        code = child(work)
        sound = code in (0, DAMAGED, KILLED) and is_sound(run, seen)
        again = child(lambda: way_on(step, run)(cache, run)) == 0 and content(run) == whole
        found.update(calls=1, stopped=code != 0, sound=sound, recovered=again)
        if not (sound and again):
            console.print(f"{name}, call {number}: exit {code}, {sound=}, {again=}")
    mark.unlink()
    return dict(found)


def run_writes(every: int, extraction: Extraction, scratch: Path) -> dict[str, dict[str, int]]:
    """Kill, and fill the disk, at each call by which each command changes a run."""
    cache = scratch / "cache"
    extraction.run(cache)
    runs, found = make_runs(cache, scratch), {}
    for name in COMMANDS:
        for what, happens in {"killed": die, "no room": find_no_room}.items():
            part = at_each_call(name, happens, runs, cache, scratch, every=every)
            console.print(f"{name}, {what}: {part}")
            found[f"{name}, {what}"] = part
    return found
