"""How fast batches of cached features are read, beside formats and libraries that people use.

    python -m benchmarks.loader [--images 2048] [--rounds 7] [--dtype int8] [--quick]
                                [--json] [--out FILE]

Rows of 256 x 768 float16, hot in the page cache, in batches of 64 random pictures. Each contender
is measured once a round in a process of its own, with its own order of rows; the order of the
contenders is drawn for each round. All bytes are compared with ours before the clock starts.

    C1         a copy of the same rows from anonymous memory into a page-aligned buffer
    C2         a copy of the same rows from a mapped flat file
    ours / X   the median over the rounds of the ratio within a round; for C1 and C2 the ratio of
               `ceilings.py`, which copies side by side in one process
    limits     the ratios to the h5py loaders if ours read the same rows but wrote them nowhere,
               as `ceilings.py` measures

With another dtype than float16 only our own contenders are measured, in both dtypes.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.generated import write_cache
from benchmarks.harness import Json, MeasurementError, finish, fresh, machine, rounds
from benchmarks.loader.contenders import GRID, ROW_SHAPE, VISION_DIM, Line
from benchmarks.loader.ours import CEILINGS, FLAT, OURS, cache_name
from benchmarks.loader.peers import PEERS, WRITE
from benchmarks.loader.reading import digests_name
from benchmarks.loader.summary import limits, steady, summary
from frozen_vqa.cache import CacheSpec, FeatureCache
from frozen_vqa.cache.format.digests import row_digests
from frozen_vqa.cache.format.spec import DTYPES, SCALE_DTYPE
from frozen_vqa.pipeline.system.console import console, progress

READING = "benchmarks.loader.reading"
CEILINGS_SIDE_BY_SIDE = "benchmarks.loader.ceilings"
TEXT_DIM = 2048
MODULES = {"mosaicml-streaming": "streaming"}
"""Of packages that are imported under another name."""


def spec_of(dtype: str) -> CacheSpec:
    """Return the real shape of DINOv2-base at 224 pixels beside a Llama 3.2 of one billion."""
    return CacheSpec({}, {}, GRID, VISION_DIM, TEXT_DIM, dtype)


def write_ours(folder: Path, images: int, dtype: str) -> FeatureCache:
    """Write a cache and the digests of its rows."""
    write_cache(
        folder / cache_name(dtype),
        images=images,
        questions_per_image=1,
        distinct_questions=images,
        answers=2,
        spec=spec_of(dtype),
    )
    cache = FeatureCache(folder / cache_name(dtype))
    out = np.empty((1, *ROW_SHAPE), dtype)
    scales = np.empty((1, cache.spec.patches), SCALE_DTYPE) if cache.spec.quantised else None
    digests = np.empty(images, np.uint64)
    for row in range(images):
        cache.read_images(np.array([row]), out, scales)
        digests[row] = row_digests(out)[0]
    np.save(folder / digests_name(dtype), digests)
    return cache


def write_peers(folder: Path, cache: FeatureCache, lines: Sequence[Line]) -> None:
    """Write the same rows as a flat file, and from that in the form of every peer."""
    images = cache.manifest.image_rows
    flat = np.memmap(folder / FLAT, np.float16, "w+", shape=(images, *ROW_SHAPE))
    cache.read_images(np.arange(images), flat)
    flat.flush()
    needed = [name for name in WRITE if name in {line.file for line in lines}]
    with progress("Writing", len(needed)) as advance:
        for name in needed:
            WRITE[name](folder / name, flat)
            advance(note=name)
    os.sync()  # so that the kernel does not write while we measure


def installed(lines: Sequence[Line]) -> list[Line]:
    """Return the lines whose packages are there; name the others."""
    missing = {
        line.package for line in lines if not find_spec(MODULES.get(line.package, line.package))
    }
    for package in sorted(missing):
        console.print(f"{package}: not installed: make bench")
    return [line for line in lines if line.package not in missing]


def measured(folder: Path, lines: Sequence[Line], number: int, seconds: float) -> dict[str, list]:
    """Measure the lines in rounds; a peer that fails is named and left out."""
    failed: dict[str, str] = {}

    def task(line: Line, advance: Callable[..., None], i: int) -> Json:
        advance(note=line.key)
        if line.key in failed:
            return {}
        args = [folder, line.key, "--seed", i, "--seconds", seconds]
        try:
            return fresh(READING, args)
        except MeasurementError as error:
            if line not in PEERS:
                raise
            failed[line.key] = str(error).splitlines()[-1]
            return {}

    with progress("Measuring", number * len(lines)) as advance:
        tasks = {line.key: partial(task, line, advance) for line in lines}
        found = rounds(tasks, number)
    for key, reason in failed.items():
        console.print(f"{key}: failed: {reason}")
    return {key: values for key, values in found.items() if key not in failed}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, help="pictures (2048; with --quick 256)")
    parser.add_argument("--rounds", type=int, help="rounds (7; with --quick 2)")
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of our own lines")
    parser.add_argument("--quick", action="store_true", help="a line or two of each peer, briefly")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON object")
    options = parser.parse_args()
    images = options.images or (256 if options.quick else 2048)
    number = options.rounds or (2 if options.quick else 7)
    dtypes = list(dict.fromkeys(("float16", options.dtype)))
    result: Json = {"machine": machine(), "images": images, "rounds": number}
    lines = [line for line in OURS if line.file in map(cache_name, dtypes)]
    peers = installed(PEERS) if len(dtypes) == 1 else []
    peers = [line for line in peers if line.quick or not options.quick]
    lines += [*CEILINGS, *peers]
    with tempfile.TemporaryDirectory(prefix="loader-") as name:
        folder = Path(name)
        caches = [write_ours(folder, images, dtype) for dtype in dtypes]
        write_peers(folder, caches[0], peers)
        found = measured(folder, lines, number, 0.3 if options.quick else 1.0)
        beside = fresh(
            CEILINGS_SIDE_BY_SIDE, [caches[0].directory, "--passes", 2 if options.quick else 9]
        )
    result |= summary(found, lines, options.dtype) | {"side_by_side": beside}
    for what in ("memory_copy_mapped", "memory_copy_resident"):
        result["ratios"][what] = round(beside[what], 3)
        console.print(f"{what}, side by side in one process: {beside[what]:.3f}")
    if options.dtype == "float16":
        result["limits"] = limits(result["ratios"], beside["read_over_mapped"])
        for what, limit in result["limits"].items():
            console.print(f"{what}, if we read the rows and wrote them nowhere: {limit}")
    result["steady"] = steady(found, result["machine"]["load_at_start"])
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
