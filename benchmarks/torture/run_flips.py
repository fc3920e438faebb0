"""Flips single bits of every file of a run, and sees what the next command makes of each."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.torture.disturbed import DAMAGED, Extraction
from benchmarks.torture.runs import child, content, lay_out, make_runs, resume, score, undisturbed
from frozen_vqa.pipeline.system.console import console, progress


def run_flips(
    count: int, extraction: Extraction, scratch: Path, rng: random.Random
) -> dict[str, dict[str, int]]:
    """Flip bits of every file of a run: it is refused, or all else ends as it would have done.

    A finished run is scored and a stopped one is resumed.
    """
    cache, run = scratch / "cache", scratch / "flipped"
    extraction.run(cache)
    runs = make_runs(cache, scratch)
    found: dict[str, Counter[str]] = {}
    for start, step in {"done": score, "stopped": resume}.items():
        lay_out(runs[start], run)
        whole = undisturbed(step, cache, run, scratch / "seen")
        with progress(f"flips, {start}", count // 2) as advance:
            for file, byte, bit in choose_bits(runs[start], count // 2, rng):
                lay_out(runs[start], run)
                data = bytearray((run / file).read_bytes())
                data[byte] ^= 1 << bit
                (run / file).write_bytes(data)
                outcome = judge(child(lambda step=step: step(cache, run)), run, file, whole)  # type: ignore[misc]
                found.setdefault(f"{start}: {file}", Counter()).update({"run": 1, outcome: 1})
                if outcome not in ("refused", "harmless"):
                    console.print(f"{outcome}: {start}, bit {bit} of byte {byte} of {file}")
                advance(1)
    return {file: dict(counts) for file, counts in sorted(found.items())}


def choose_bits(run: Path, count: int, rng: random.Random) -> Iterator[tuple[str, int, int]]:
    """Yield bits, as many of each file that is not empty."""
    sizes = {
        str(p.relative_to(run)): p.stat().st_size for p in sorted(run.rglob("*")) if p.is_file()
    }
    files = [name for name, size in sizes.items() if size]
    for number in range(count):
        file = files[number % len(files)]
        yield file, rng.randrange(sizes[file]), rng.randrange(8)


def judge(code: int, run: Path, flipped: str, whole: dict[str, Any]) -> str:
    """Return what became of a command on a run with a flipped bit in one file."""
    if code != 0:
        return "refused" if code == DAMAGED else "crash"
    try:
        left = content(run)
    except ValueError:  # it reads this file as little as the command did
        left = {**whole}
    different = {name for name in {**left, **whole} if left.get(name) != whole.get(name)}
    return "harmless" if different <= {flipped} else "silent"
