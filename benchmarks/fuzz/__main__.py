"""Fuzzes every reader for so many minutes, counts what comes of it, and fails if one fell out.

    python -m benchmarks.fuzz --minutes 60

An input is a valid file with some bytes, numbers or names changed. What falls out is kept.
"""

import argparse
import hashlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import torch
from rich.table import Table

from benchmarks.fuzz.files import raw, raw_state
from benchmarks.fuzz.readers import READERS, Reader
from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.errors import PipelineError, is_out_of_memory
from frozen_vqa.pipeline.system.console import console
from tests.support.attack import BYTES, SECONDS, SECRET, TooMuchError, bounded, watched
from tests.support.forged import PARTS, copy_parts, valid

TURN = 20.0
"""Seconds for one reader before the next has its turn."""

KEPT_BYTES = 4 << 20
"""Files up to this size are put back after each input; the weights of the tiny models are some."""


@dataclass
class Found:
    """What came of the inputs of one reader."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failures: list[tuple[int, str]] = field(default_factory=list)


def main() -> int:
    """Give each reader its turns until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--reader", action="append", choices=READERS, help="repeat for several")
    parser.add_argument("--seed", type=int, default=0, help="the first one of each reader")
    parser.add_argument("--replay", type=int, help="run this one seed, and show its traceback")
    parser.add_argument("--kept", type=Path, default=Path("build/fuzz"), help="where failures go")
    options = parser.parse_args()
    names = options.reader or list(READERS)
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch))
        if options.replay is not None:
            return replay(names[0], options.replay, Path(scratch))
        found = {name: Found() for name in names}
        end = time.monotonic() + 60 * options.minutes
        while (left := end - time.monotonic()) > 0:
            for name in names:
                seconds = min(TURN, max(1.0, left / len(names)))
                take_turn(name, options.seed, found[name], Path(scratch), seconds)
                if time.monotonic() > end:
                    break
    show(found)
    failed = {name: one.failures for name, one in found.items() if one.failures}
    if failed:
        options.kept.mkdir(parents=True, exist_ok=True)
        (options.kept / "failures.json").write_text(json.dumps(failed, indent=1))
        console.print(f"seeds: {options.kept / 'failures.json'}")
    return 1 if failed else 0


def prepare(scratch: Path) -> None:
    """Make what the readers need, ask nobody, and keep the progress of libraries off the screen."""
    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    datasets.config.HF_DATASETS_CACHE = scratch / "datasets"
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    console.quiet = True
    for part in PARTS:
        valid(part)
    console.quiet = False


def take_turn(name: str, start: int, found: Found, scratch: Path, seconds: float) -> None:
    """Fuzz in a child, so that a crash of a library is a failure of one input and no more."""
    started = time.monotonic()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(read)
            place = Path(tempfile.mkdtemp(dir=scratch))
            work(name, start + found.counts["inputs"], place, write, seconds)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    begun = -1
    with os.fdopen(read, "rb") as pipe:
        for line in pipe:
            seed, outcome = json.loads(line)
            if outcome == "begun":
                begun = seed
                continue
            begun = -1
            found.counts.update({"inputs": 1, outcome.partition(":")[0]: 1})
            if outcome not in ("refused", "read", "as before"):
                keep(name, found, seed, outcome)
    if os.waitpid(pid, 0)[1] and begun < 0:
        raise RuntimeError(f"{name}: its valid file is not read")
    if begun >= 0:
        found.counts.update({"inputs": 1, "crash": 1})
        keep(name, found, begun, "crash")
    found.seconds += time.monotonic() - started


def keep(name: str, found: Found, seed: int, outcome: str) -> None:
    """Keep a failure, and say it at once."""
    found.failures.append((seed, outcome))
    console.print(f"{name}, seed {seed}: {outcome}", markup=False)


def work(name: str, seed: int, place: Path, write: int, seconds: float) -> None:
    """Mutate and read until the turn is over; tell what came of each input."""
    sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    reader, end = READERS[name], time.monotonic() + seconds
    lay_out(reader, place)
    kept = {
        p: p.read_bytes() for p in place.rglob("*") if p.is_file() and p.stat().st_size < KEPT_BYTES
    }
    before = frozen(reader.read(place)) if (place / reader.file).exists() else None
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while time.monotonic() < end:
        os.write(write, json.dumps([seed, "begun"]).encode() + b"\n")
        outcome, _ = one_input(name, seed, place, before)
        os.write(write, json.dumps([seed, outcome]).encode() + b"\n")
        restore(place, kept)
        seed += 1


def lay_out(reader: Reader, place: Path) -> None:
    """Copy the valid files of a reader, beside a secret that none may open."""
    (place / SECRET).mkdir()
    copy_parts(reader.parts, place)


def restore(place: Path, kept: Mapping[Path, bytes]) -> None:
    """Put the valid files back, and remove what was made."""
    for path in place.rglob("*"):
        if path.is_file() and path not in kept and path.stat().st_size < KEPT_BYTES:
            path.unlink()
    for path, data in kept.items():
        if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
            path.write_bytes(data)


def one_input(name: str, seed: int, place: Path, before: Any) -> tuple[str, str]:
    """Return what a reader made of one input, and the traceback if it failed."""
    reader = READERS[name]
    rng = random.Random(int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:8]))
    mutate = rng.choice(list(reader.mutations))
    try:
        mutate(place / reader.file, rng)
    except Exception as error:
        return "as before", f"not made: {error}"  # a digest of what json cannot write
    untold = reader.sealed and mutate in (raw, raw_state)
    try:
        with bounded() as taken, watched(place / SECRET) as did:
            value = reader.read(place)
    except (CacheError, PipelineError) as error:
        return ("refused" if str(error).strip() and "\n" not in str(error) else "no sentence"), ""
    except TooMuchError:
        return f"slow: more than {SECONDS:g} s", ""
    except BaseException as error:
        if isinstance(error, Exception) and is_out_of_memory(error):
            return f"memory: more than {BYTES:,} bytes", ""
        text = textwrap.shorten(str(error), 120)
        return f"traceback: {type(error).__name__}: {text}", traceback.format_exc()
    if did:
        return f"touched: {did[0]:.200}", ""
    if taken.bytes > BYTES:
        return f"memory: {taken.bytes:,} bytes", ""
    found = frozen(value)
    if bad := next(not_finite(found), None):
        return f"not finite: {bad}", ""
    if found == before:
        return "as before", ""
    return ("silent" if untold else "read"), ""


def frozen(value: Any) -> Any:
    """Return a value as plain ones that can be compared; what was read may be nested deeply."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * before)
    try:
        return _frozen(value)
    finally:
        sys.setrecursionlimit(before)


def _frozen(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().float().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, np.ndarray):
        floats = value.dtype.kind == "f"
        return [
            value.shape,
            value.tobytes(),
            float(np.abs(value).max()) if floats and value.size else 0,
        ]
    if is_dataclass(value) and not isinstance(value, type):
        return [_frozen(getattr(value, one.name)) for one in fields(value)]
    if isinstance(value, Mapping):
        return {str(key): _frozen(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_frozen(one) for one in value]
    return value


def not_finite(value: Any) -> Iterator[str]:
    """Yield every number that is not finite."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            yield repr(one)
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def replay(name: str, seed: int, scratch: Path) -> int:
    """Run one input in this process, and print all about it."""
    place = scratch / "replay"
    place.mkdir()
    lay_out(READERS[name], place)
    outcome, trace = one_input(name, seed, place, None)
    print(trace or outcome)
    for file in sorted((place / READERS[name].file).parent.glob("*.*")):
        print(file.name, file.read_bytes()[:2000])
    return 0 if outcome in ("refused", "read", "as before") else 1


def show(found: Mapping[str, Found]) -> None:
    """Print a line for each reader."""
    table = Table("reader", "inputs", "a second", "refused", "read", "as before", "fell out")
    total = Found()
    for name, one in (*found.items(), ("all", total)):
        counts = one.counts
        table.add_row(
            name,
            f"{counts['inputs']:,}",
            f"{counts['inputs'] / max(one.seconds, 1e-9):,.0f}",
            *(f"{counts[what]:,}" for what in ("refused", "read", "as before")),
            f"{len(one.failures):,}",
        )
        total.counts.update(counts)
        total.seconds += one.seconds
        total.failures += one.failures
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
