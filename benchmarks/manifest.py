"""What a cache of a hundred thousand shards costs before its first row is read.

    python -m benchmarks.manifest [--shards 1000 10000 100000] [--rounds 3] [--folder DIR]
                                   [--json] [--out FILE]

The caches are simulated: a hundred small shards with ids of other lengths, each linked many times.
So all files are there, every digest is right, and the records differ as real ones do. Each line is
the median of the rounds, each in a process of its own: seconds of the processor, and the most
memory of the process in MiB, of which about 60 are Python, numpy and this package.

    manifest    cache.json read, and the last record
    open        `FeatureCache`: the size of every shard compared
    rows        a thousand rows of pictures in random order, each with its shard's record
    resume      the writer opened and closed again
    append      one more shard staged and adopted, in a writer that is open
    inspect     `inspect-cache`
    sample      `verify-cache --sample 100`
    ids         the id of every picture: all shards opened, as the plan of an extraction does
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.harness import Json, finish, machine, peak_rss, show
from frozen_vqa.cache import CacheSpec, CacheWriter, FeatureCache, Manifest, load_manifest
from frozen_vqa.cache.disk.pages import fill_pages
from frozen_vqa.cache.disk.row_names import read_names
from frozen_vqa.cache.disk.staging import stage_shard
from frozen_vqa.cache.format.shards import THUMBNAIL, NewImages, Shard, image_shard
from frozen_vqa.cache.format.small_files import small_files
from frozen_vqa.pipeline.commands.inspect_cache import inspect_command, verify_command
from frozen_vqa.pipeline.system.console import console

SHARDS, ORIGINALS, ROWS = (1_000, 10_000, 100_000), 100, 3
SPEC = CacheSpec({"model": "none"}, {"model": "none"}, (2, 2), 4, 4)


def original(number: int) -> Shard:
    """Return one of the shards that all others are links to."""
    rng = np.random.default_rng(number)
    patches = rng.standard_normal((ROWS, 4, 4)).astype(np.float16)
    ids = [f"{i:0{1 + number % 40}d}" for i in range(ROWS)]
    thumbnails = np.zeros((ROWS, THUMBNAIL), np.uint8)
    new = NewImages(ids, thumbnails, patches, np.ascontiguousarray(patches[:, 0]))
    origin = {
        "dataset": "vqav2:/data/vqav2",
        "columns": {},
        "splits": ["train", "val"],
        "digests": {"train": "0" * 32, "val": "1" * 32},
        "limit": None,
        "batch_size": 64,
        "images": "/data/vqav2/images",
    }
    return image_shard(SPEC, new, origin=origin)


def make(folder: Path, shards: int) -> None:
    """Write a cache of so many shards."""
    originals = [original(number) for number in range(min(ORIGINALS, shards))]
    for name in ("images", "manifest"):
        (folder / name).mkdir(parents=True)
    records = []
    for index in range(shards):
        shard, path = originals[index % len(originals)], folder / f"images/{index:05d}.h5"
        records.append(replace(shard.record, file=f"images/{path.name}"))
        if index < len(originals):
            path.write_bytes(b"".join(map(bytes, shard.pieces)))
        else:
            os.link(folder / f"images/{index % len(originals):05d}.h5", path)

    def write(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    manifest = fill_pages(folder, Manifest(SPEC, records), write)
    for name, data in small_files(manifest).items():
        write(name, data)
    with CacheWriter(folder, SPEC):
        pass  # which writes the mark


def open_manifest(folder: Path) -> Callable[[], object]:
    """Read cache.json."""
    return lambda: load_manifest(folder).images[-1]


def open_cache(folder: Path) -> Callable[[], object]:
    """Open a cache for reading."""
    return lambda: FeatureCache(folder)


def find_rows(folder: Path) -> Callable[[], object]:
    """Find the shards of rows."""
    cache = FeatureCache(folder)
    rows = np.random.default_rng(0).integers(0, cache.manifest.image_rows, 1_000)

    def find() -> None:
        firsts = np.cumsum([0, *cache.manifest.shards("images").column("rows")])
        for index in np.searchsorted(firsts, rows, side="right") - 1:
            assert cache.manifest.images[index].rows

    return find


def resume(folder: Path) -> Callable[[], object]:
    """Open and close the writer."""
    return lambda: CacheWriter(folder, SPEC).__enter__().__exit__(None)


def append(folder: Path) -> Callable[[], object]:
    """Add a shard."""
    writer = CacheWriter(folder, SPEC).__enter__()
    keys = iter(f"{number:016x}" for number in range(10))

    def add(count: int = 1) -> None:
        for _ in range(count):
            stage_shard(folder, key := next(keys), original(0), kind="images")
            assert writer.adopt("images", [key]) == 1

    add()  # which notes the names of the next ones
    return add


def inspect(folder: Path) -> Callable[[], object]:
    """Inspect a cache."""
    return lambda: inspect_command(folder)


def sample(folder: Path) -> Callable[[], object]:
    """Verify a hundred files."""

    def verify() -> None:
        assert not verify_command(folder, 100)["damaged"]

    return verify


def ids(folder: Path) -> Callable[[], object]:
    """Read the ids of all pictures."""
    return lambda: read_names(folder, load_manifest(folder), "images")


MEASURED: Mapping[str, Callable[[Path], Callable[[], object]]] = {
    "manifest": open_manifest,
    "open": open_cache,
    "rows": find_rows,
    "inspect": inspect,
    "sample": sample,
    "ids": ids,
    "resume": resume,
    "append": append,
}


def measure(name: str, folder: Path) -> tuple[float, float]:
    """Return seconds and MB of one process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (name, folder))


def _measured(name: str, folder: Path) -> tuple[float, float]:
    console.quiet = True
    work = MEASURED[name](folder)
    begin = time.process_time()
    work()
    seconds = time.process_time() - begin
    return seconds, peak_rss() / 2**20


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shards", type=int, nargs="+", default=SHARDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to make the caches")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    rows: list[Json] = []
    for shards in options.shards:
        folder = Path(tempfile.mkdtemp(dir=options.folder)) / "cache"
        make(folder, shards)
        for name in MEASURED:
            found = [measure(name, folder) for _ in range(options.rounds)]
            seconds, megabytes = (median(values) for values in zip(*found, strict=True))
            rows.append({"shards": shards, "what": name, "s": seconds, "MB": megabytes})
            finish({"machine": machine(), "rows": rows}, as_json=False, path=options.out)
        shutil.rmtree(folder.parent)
    shown = [{**row, "s": f"{row['s']:.3f}", "MB": f"{row['MB']:.0f}"} for row in rows]
    show("A cache of many shards", shown)
    finish({"machine": machine(), "rows": rows}, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
