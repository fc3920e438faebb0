"""What the digests cost a reader, and how long it takes to open a cache of many shards.

    python -m benchmarks.loader.first_touch [--images 4000] [--shards 1000] [--rounds 9] [--json]

An epoch reads a mapped cache of 256 x 768 float16 rows, hot in the page cache, in random order, in
batches of 64, into one aligned buffer. Each round opens the cache anew and measures in random
order: `unchecked`, where every row counts as checked already; `first`, where every row is checked
at its first touch; `later`, the epoch after `first`. Prints medians, and ratios within one run.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.generated import write_cache
from benchmarks.harness import aligned
from frozen_vqa.cache import CacheSpec, FeatureCache
from frozen_vqa.pipeline.system.console import console

PATCHES, DIM, BATCH = (16, 16), 768, 64


def fill(
    directory: Path, images: int, *, spec: CacheSpec, rows_per_shard: int | None = None
) -> None:
    """Write a cache whose pictures are all that matters."""
    write_cache(
        directory,
        images=images,
        questions_per_image=1,
        distinct_questions=10,
        answers=2,
        spec=spec,
        rows_per_shard=rows_per_shard,
    )


def epoch(cache: FeatureCache, order: np.ndarray, out: np.ndarray) -> float:
    """Read every picture once; return the seconds."""
    started = time.perf_counter()
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        cache.read_images(rows, out[: len(rows)])
    return time.perf_counter() - started


def measure(directory: Path, images: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every epoch by kind."""
    spec = FeatureCache(directory).spec
    shape = (BATCH, spec.patches, spec.vision_dim)
    out = aligned(shape, spec.image_dtype)
    found: dict[str, list[float]] = {"unchecked": [], "first": [], "later": []}
    for number in range(rounds):
        order = np.random.default_rng(number).permutation(images)
        for kind in random.sample(["unchecked", "first"], 2):
            cache = FeatureCache(directory)
            for shard in range(len(cache.manifest.images)):
                opened = cache._open(shard)
                opened.checked[:] = kind == "unchecked"
            found[kind].append(epoch(cache, order, out))
            if kind == "first":
                found["later"].append(epoch(cache, order, out))
    return found


def opening(directory: Path) -> tuple[float, float]:
    """Return the seconds to open a cache, and to read one row of every shard after that."""
    started = time.perf_counter()
    cache = FeatureCache(directory)
    opened = time.perf_counter()
    rows = np.cumsum([0, *(record.rows for record in cache.manifest.images[:-1])])
    out = np.empty((1, cache.spec.patches, cache.spec.vision_dim), cache.spec.image_dtype)
    for row in rows:
        cache.read_images(np.array([row]), out)
    return opened - started, time.perf_counter() - opened


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        real = CacheSpec({}, {}, PATCHES, DIM, DIM)
        fill(Path(folder) / "real", options.images, spec=real)
        seconds = measure(Path(folder) / "real", options.images, options.rounds)
        small = CacheSpec({}, {}, (4, 4), 32, 32)
        fill(Path(folder) / "many", 4 * options.shards, spec=small, rows_per_shard=4)
        opened, touched = opening(Path(folder) / "many")
    bytes_read = options.images * PATCHES[0] * PATCHES[1] * DIM * 2
    table = Table("epoch", "GB/s", "time against unchecked", title=f"{options.images:,} pictures")
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    found: dict[str, float] = {}
    for kind, median in medians.items():
        found[f"{kind}_gb_per_s"] = round(bytes_read / median / 1e9, 2)
        found[f"{kind}_ratio"] = round(median / medians["unchecked"], 3)
        table.add_row(kind, f"{found[f'{kind}_gb_per_s']}", f"{found[f'{kind}_ratio']}")
    console.print(table)
    console.print(
        f"{options.shards:,} shards: opened in {opened:.3f} s, a row of each in {touched:.3f} s"
    )
    found |= {"shards": options.shards, "open_seconds": round(opened, 4)}
    found["touch_every_shard_seconds"] = round(touched, 4)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
