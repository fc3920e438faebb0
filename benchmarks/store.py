"""What a cache at a URL costs beside a local one: a cold epoch, and a hot one.

    python -m benchmarks.store [--pictures N] [--rounds N] [--url URL] [--folder DIR] [--json]

Pictures of 256 x 768 float16 are pushed to `--url`: `file://` in the folder by default, or s3:// of
a server that runs. Each round measures in this process, in an order of its own:

    store         all image objects, read side by side and thrown away: what the store gives
    cold epoch    an empty stage: shards come in the order of the batches, and every row is read
    hot, staged   every row once more, in an order of its own
    hot, local    the same rows in the same order from the cache that was pushed

Both hot epochs have read each row before, so that digests are not compared again in either. The
ratios are medians of those within a round.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.generated import write_cache
from benchmarks.harness import Json, finish, machine, rounds, show
from frozen_vqa.cache import CacheSpec, FeatureCache, load_manifest
from frozen_vqa.cache.memory import aligned_empty
from frozen_vqa.cache.stores.copies import object_name, side_by_side
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.push import push_cache
from frozen_vqa.cache.stores.stage import open_stage

SPEC = CacheSpec({}, {}, (16, 16), 768, 256, "float16")
BATCH = 64


def measure(pictures: int, number: int, url: str | None, folder: Path) -> Json:
    """Return medians of the speeds in bytes a second, and of their ratios within a round."""
    cache, store = folder / "cache", open_store(url or f"file://{folder.resolve()}/store")
    write_cache(
        *(cache,),
        images=pictures,
        questions_per_image=1,
        distinct_questions=64,
        answers=10,
        spec=SPEC,
        rows_per_shard=64,
    )
    manifest = load_manifest(cache)
    push_cache(cache, manifest, store, card=b"-", mark=b"-", advance=lambda _: None)
    local, stage = FeatureCache(cache), folder / "stage"
    staged = FeatureCache(open_stage(str(store), folder / "kept"))
    _epoch(local, 0)
    _epoch(staged, 0)

    def read_store(_: int) -> Json:
        started = time.perf_counter()
        reading = side_by_side(
            store, lambda one: len(store.read(object_name(one), most=one.bytes)), manifest.images
        )
        return _rate(sum(found for _, found in reading), started)

    def cold(seed: int) -> Json:
        shutil.rmtree(stage, ignore_errors=True)
        there = FeatureCache(open_stage(str(store), stage))
        return _epoch(there, seed)

    tasks: dict[str, Callable[[int], Json]] = {
        "store": read_store,
        "cold epoch": cold,
        "hot, staged": partial(_epoch, staged),
        "hot, local": partial(_epoch, local),
    }
    found = rounds(tasks, number)
    rates = {name: [one["rate"] for one in some] for name, some in found.items()}

    def ratio(over: str, under: str) -> float:
        pairs = zip(rates[over], rates[under], strict=True)
        return round(statistics.median(one / other for one, other in pairs), 3)

    return {
        "machine": machine(),
        "pictures": pictures,
        "bytes": manifest.bytes,
        "url": str(store).partition("://")[0],
        "bytes_a_second": {name: round(statistics.median(some)) for name, some in rates.items()},
        "cold epoch / store": ratio("cold epoch", "store"),
        "hot, staged / hot, local": ratio("hot, staged", "hot, local"),
    }


def _epoch(cache: FeatureCache, seed: int) -> Json:
    """Read every picture once, in an order of its own."""
    rows = np.random.default_rng(seed).permutation(cache.manifest.image_rows)
    out = aligned_empty((BATCH, SPEC.patches, SPEC.vision_dim), SPEC.image_dtype)
    started = time.perf_counter()
    cache.expect(rows, together=True)
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        cache.read_images(batch, out[: len(batch)])
    return _rate(len(rows) * out[0].nbytes, started)


def _rate(count: int, started: float) -> Json:
    return {"rate": count / (time.perf_counter() - started)}


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and show what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--url")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        found = measure(asked.pictures, asked.rounds, asked.url, Path(made))
    if not asked.json:
        speeds = found["bytes_a_second"].items()
        show("speeds", [{"what": name, "MB/s": round(rate / 1e6)} for name, rate in speeds])
        ratios = ("cold epoch / store", "hot, staged / hot, local")
        show("ratios", [{"what": name, "median": found[name]} for name in ratios])
    finish(found, as_json=asked.json, path=asked.out)


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
