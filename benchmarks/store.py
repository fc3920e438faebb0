"""What a cache at a URL costs beside a local one: a cold epoch, and a hot one.

    python -m benchmarks.store [--pictures N] [--rounds N] [--rate MB/S] [--url URL] [--folder DIR]

Pictures of 256 x 768 float16 lie in a store on loopback (paced_store.py) that speaks S3 and gives
`--rate`, as a network does; or at `--url`. Each round measures in this process, in an order of its
own:

    store            all image objects, read side by side and thrown away: what the store gives
    cold, in order   an empty stage, and every row read shard after shard, as into ram or a GPU
    cold, at random  an empty stage, and every row read in a random order, as from "mapped"

A cold epoch shares the processor with the store, so the rate is one that both can do. The hot
epochs, from the stage and from the cache that was pushed, take turns every `WINDOW` pictures, so
that other work on the machine slows both alike. Both have read each row before, so that digests are
not compared again. The ratios are medians of those within a round.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.generated import write_cache
from benchmarks.harness import ROOT, Json, finish, machine, rounds, show
from benchmarks.paced_store import BUCKET
from frozen_vqa.cache import CacheSpec, FeatureCache, load_manifest
from frozen_vqa.cache.memory import aligned_empty
from frozen_vqa.cache.stores.copies import object_name, side_by_side
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.push import push_cache
from frozen_vqa.cache.stores.stage import open_stage

RATE = 312.5
"""MB/s of the store, 2.5 Gbit/s. Client, stage and store took 2.5 s of the processor for each GB,
of which two cores have 6.4 at this rate."""

WINDOW = 256
"""Pictures that a hot epoch reads before it is the other one's turn."""

HOT_ROUNDS = 3
"""Turns of both hot epochs in a round."""

SPEC = CacheSpec({}, {}, (16, 16), 768, 256, "float16")
BATCH = 64


@contextmanager
def paced_store(folder: Path, rate: float) -> Iterator[str]:
    """Serve a folder's files at so many MB/s; yield the URL."""
    words = ["-m", "benchmarks.paced_store", str(folder), str(rate * 1e6)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin
        assert process.stdout
        port = process.stdout.readline().strip()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }
        yield f"s3://{BUCKET}"
        process.stdin.close()


def measure(pictures: int, number: int, url: str, cache: Path, folder: Path) -> Json:
    """Return medians of the speeds in bytes a second, and of their ratios within a round."""
    store, manifest = open_store(url), load_manifest(cache)
    local, stage = FeatureCache(cache), folder / "stage"
    staged = FeatureCache(open_stage(url, folder / "kept"))
    _epoch(local, np.arange(pictures))
    _epoch(staged, np.arange(pictures))

    def read_store(_: int) -> Json:
        started = time.perf_counter()
        reading = side_by_side(
            store, lambda one: len(store.read(object_name(one), most=one.bytes)), manifest.images
        )
        return {"rate": sum(found for _, found in reading) / (time.perf_counter() - started)}

    def cold(seed: int, *, shuffled: bool) -> Json:
        shutil.rmtree(stage, ignore_errors=True)
        started = time.perf_counter()
        there = FeatureCache(open_stage(url, stage))
        count = _epoch(there, _rows(pictures, seed) if shuffled else np.arange(pictures))
        return {"rate": count / (time.perf_counter() - started)}

    tasks: dict[str, Callable[[int], Json]] = {
        "store": read_store,
        "cold, in order": partial(cold, shuffled=False),
        "cold, at random": partial(cold, shuffled=True),
    }
    found = rounds(tasks, number)
    hot = [_take_turns(staged, local, seed) for seed in range(HOT_ROUNDS * number)]
    rates = {name: [one["rate"] for one in some] for name, some in found.items()}
    rates |= {f"hot, {name}": [one[name] for one in hot] for name in ("staged", "local")}

    def ratio(over: str, under: str) -> Json:
        pairs = zip(rates[over], rates[under], strict=True)
        each = sorted(one / other for one, other in pairs)
        middle = each[len(each) // 4 : -(len(each) // 4) or None]
        return {
            "median": round(statistics.median(each), 3),
            "half of them": f"{middle[0]:.2f} - {middle[-1]:.2f}",
        }

    compared = [
        ("cold, in order", "store"),
        ("cold, at random", "store"),
        ("hot, staged", "hot, local"),
    ]
    return {
        "machine": machine(),
        "pictures": pictures,
        "bytes": manifest.bytes,
        "bytes_a_second": {name: round(statistics.median(some)) for name, some in rates.items()},
        "ratios": {f"{over} / {under}": ratio(over, under) for over, under in compared},
    }


def _rows(pictures: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(pictures)


def _buffer() -> np.ndarray:
    return aligned_empty((BATCH, SPEC.patches, SPEC.vision_dim), SPEC.image_dtype)


def _epoch(cache: FeatureCache, rows: np.ndarray) -> int:
    """Read every picture once, in this order; return the bytes."""
    cache.expect(rows, together=True)
    return _read(cache, rows, _buffer())


def _read(cache: FeatureCache, rows: np.ndarray, out: np.ndarray) -> int:
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        cache.read_images(batch, out[: len(batch)])
    return len(rows) * out[0].nbytes


def _take_turns(staged: FeatureCache, local: FeatureCache, seed: int) -> Json:
    """Return the speeds of a hot epoch of each, which take turns."""
    rng, rows = np.random.default_rng(seed), _rows(staged.manifest.image_rows, seed)
    both, seconds, count = {"staged": staged, "local": local}, {"staged": 0.0, "local": 0.0}, 0
    out = _buffer()
    for cache in both.values():
        cache.expect(rows, together=True)
    for first in range(0, len(rows), WINDOW):
        window = rows[first : first + WINDOW]
        for name in rng.permutation(list(both)).tolist():
            started = time.perf_counter()
            read = _read(both[name], window, out)
            seconds[name] += time.perf_counter() - started
        count += read
    return {name: count / taken for name, taken in seconds.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and show what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--url")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        folder = Path(made).resolve()
        cache, served = folder / "cache", folder / "store"
        write_cache(
            *(cache,),
            images=asked.pictures,
            questions_per_image=1,
            distinct_questions=64,
            answers=10,
            spec=SPEC,
            rows_per_shard=64,
        )
        store = open_store(asked.url or f"file://{served}")
        manifest = load_manifest(cache)
        push_cache(cache, manifest, store, card=b"-", mark=b"-", advance=lambda _: None)
        with nullcontext(asked.url) if asked.url else paced_store(served, asked.rate) as url:
            found = measure(asked.pictures, asked.rounds, url, cache, folder)
    if not asked.json:
        speeds = found["bytes_a_second"].items()
        show("speeds", [{"what": name, "MB/s": round(rate / 1e6)} for name, rate in speeds])
        show("ratios", [{"what": name, **one} for name, one in found["ratios"].items()])
    finish(found, as_json=asked.json, path=asked.out)


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
