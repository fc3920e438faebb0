"""Our reading against copies of the same rows in memory, side by side in one process.

    python -m benchmarks.loader.ceilings CACHE [--passes 9]

Where pages lie differs from process to process and changes a copy's speed by a fifth. Here all
fill one page-aligned buffer with batches of 64 random pictures, in turn, in random order. Prints
one JSON object: GB/s by what, and the median over the passes of ours over the others.

    C1  rows out of anonymous memory      np.take and row by row, on one thread
    C2  rows out of a mapped flat file    the same; this is also a flat .npy map at its best
    read   rows of that file, read by as many threads as copy ours, and written nowhere
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import Json, aligned, median
from benchmarks.loader.ours import Copy, row_by_row, taken
from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.disk.copy_threads import CopyThreads
from frozen_vqa.cache.memory import ResidentImages

BATCH, TURN = 64, 512
"""Pictures read at once, and by one before the next has its turn."""

READ = "read"
"""What no copy is faster than."""

Read = Callable[[np.ndarray], None]


def readers(cache: FeatureCache, folder: Path) -> dict[str, Read]:
    """Return everything that is compared; all fill the same buffer."""
    spec, images = cache.spec, cache.manifest.image_rows
    row = (spec.patches, spec.vision_dim)
    out = aligned((BATCH, *row), spec.image_dtype)
    resident = ResidentImages(cache)
    anonymous = aligned((images, *row), spec.image_dtype)
    anonymous[:] = resident.rows
    anonymous.tofile(folder / "rows.bin")
    flat = np.asarray(np.memmap(folder / "rows.bin", spec.image_dtype, "r").reshape(-1, *row))

    threads = CopyThreads()

    def read(rows: np.ndarray) -> None:
        nbytes = len(rows) * flat[0].nbytes
        threads.each(partial(read_rows, flat), rows.tolist(), nbytes=nbytes)

    def copy(how: Copy, source: np.ndarray, rows: np.ndarray) -> None:
        how(source, rows, out[: len(rows)])

    return {
        "mapped": lambda rows: cache.read_images(rows, out[: len(rows)]),
        "resident": lambda rows: resident.read_images(rows, out[: len(rows)]),
        "C1 take": partial(copy, taken, anonymous),
        "C1 rows": partial(copy, row_by_row, anonymous),
        "C2 take": partial(copy, taken, flat),
        "C2 rows": partial(copy, row_by_row, flat),
        READ: read,
    }


def read_rows(source: np.ndarray, rows: Sequence[int]) -> None:
    """Read every byte of some rows."""
    for row in rows:
        np.bitwise_or.reduce(source[row].reshape(-1).view(np.uint64))


def one_pass(compared: dict[str, Read], images: int, seed: int) -> dict[str, float]:
    """Read every picture once with each; return the seconds."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(images)
    seconds = dict.fromkeys(compared, 0.0)
    for first in range(0, images, TURN):
        for name in rng.permutation(list(compared)):
            # Rows of its own, or the second to come would find them in the processor's cache.
            rows = np.roll(order, images * list(compared).index(name) // len(compared))
            turn = rows[first : first + TURN]
            batches = [turn[i : i + BATCH] for i in range(0, len(turn), BATCH)]
            started = time.perf_counter()
            for batch in batches:
                compared[name](batch)
            seconds[name] += time.perf_counter() - started
    return seconds


def measure(cache: FeatureCache, passes: int) -> Json:
    """Return speeds and ratios."""
    images = cache.manifest.image_rows
    with tempfile.TemporaryDirectory(prefix="ceilings-") as folder:
        compared = readers(cache, Path(folder))
        one_pass(compared, images, 0)  # pages, and the checks of the first touch
        found = [one_pass(compared, images, seed) for seed in range(1, passes + 1)]
    nbytes = images * cache.spec.patches * cache.spec.vision_dim * cache.spec.image_dtype.itemsize
    gb_per_s = {
        name: round(median([nbytes / seconds[name] / 1e9 for seconds in found]), 2)
        for name in compared
    }
    best = {
        kind: max((f"{kind} take", f"{kind} rows"), key=lambda name: gb_per_s[name])
        for kind in ("C1", "C2")
    }
    return {
        "gb_per_s": gb_per_s,
        "memory_copy_mapped": median([one[best["C2"]] / one["mapped"] for one in found]),
        "read_over_mapped": median([one["mapped"] / one[READ] for one in found]),
        "memory_copy_resident": median([one[best["C1"]] / one["resident"] for one in found]),
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--passes", type=int, default=9)
    options = parser.parse_args()
    print(json.dumps(measure(FeatureCache(options.cache), options.passes)))


if __name__ == "__main__":
    main()
