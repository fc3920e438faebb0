"""Measure one contender of the loader benchmark in this process, and print a JSON object.

    python -m benchmarks.loader.reading FOLDER KEY --seed 3 --seconds 1

First the file is read once, so that it is hot, and a few batches are compared with the rows that
they should hold, so that workers run and code is loaded. Then whole epochs are read, each in its
own order, until the time is up; a slow contender stops after its current batch.
`python -m benchmarks.loader` starts this.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import cpu_seconds, peak_rss
from benchmarks.loader.contenders import BATCH, Line, Read
from benchmarks.loader.ours import CEILINGS, OURS
from benchmarks.loader.peers import PEERS
from frozen_vqa.cache.format.digests import row_digests

LINES: dict[str, Line] = {line.key: line for line in (*OURS, *CEILINGS, *PEERS)}
CHECKED = 2
"""Batches that are compared before the clock starts."""

FEWEST = 2
"""Batches of a slow line."""


def digests_name(dtype: str) -> str:
    """Return the file with the digest of every row in this dtype."""
    return f"digests-{dtype}.npy"


def heat(path: Path) -> None:
    """Bring a file, or all files of a folder, into the page cache."""
    block = bytearray(16 << 20)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb", buffering=0) as opened:
                while opened.readinto(block):
                    pass


def compare(line: Line, read: Read, folder: Path, rng: np.random.Generator) -> tuple[int, int, int]:
    """Read a few batches and exit unless they hold the rows that were asked for.

    Returns:
        Pictures there are, bytes of a row, and where in its page the last batch began.
    """
    count = len(np.load(folder / digests_name("float16")))
    rows = rng.permutation(count)[: CHECKED * BATCH]
    found: list[np.ndarray] = []
    for batch in read(rows):
        array = np.asarray(batch)
        found.append(row_digests(array))
    known = np.load(folder / digests_name(array.dtype.name))
    digests = np.concatenate(found)
    if line.own_order:
        distinct = len(np.unique(digests)) == len(digests)
        right = distinct and bool(np.isin(digests, known).all())
    else:
        right = np.array_equal(digests, known[rows])
    if not right:
        sys.exit(f"{line.key}: its batches are not the rows that were asked for")
    return count, array[0].nbytes, array.ctypes.data % 4096


def measure(line: Line, folder: Path, seed: int, seconds: float) -> dict[str, float]:
    """Return speed, and what the processor did for it."""
    heat(folder / line.file)
    read = line.open(folder / line.file)
    rng = np.random.default_rng(seed)
    count, row_bytes, address = compare(line, read, folder, rng)
    whole_batches = count // BATCH * BATCH
    pictures = number = 0
    cpu, started = cpu_seconds(), time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        for batch in read(rng.permutation(count)[:whole_batches]):
            pictures += len(batch)
            number += 1
            elapsed = time.perf_counter() - started
            if elapsed >= seconds and number >= FEWEST and not line.own_order:
                break
    gigabytes = pictures * row_bytes / 1e9
    return {
        "gb_per_s": gigabytes / elapsed,
        "pictures_per_s": pictures / elapsed,
        "cpu_s_per_gb": (cpu_seconds() - cpu) / gigabytes,
        "batches": number,
        "address": address,
        "peak_rss": peak_rss(),
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("key", choices=LINES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    found = measure(LINES[options.key], options.folder, options.seed, options.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
