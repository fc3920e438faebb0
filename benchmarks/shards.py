"""How many pictures a second each part of storing features takes: alone, and all together.

    python -m benchmarks.shards [--folder DIR] [--pictures N] [--rounds N] [--json] [--out FILE]

The features have the shape of DINOv2-base at 224 pixels: 256 patches and CLS of 768 numbers in
float16. Each part takes one shard of 128 MiB. "all of stage one" is everything behind the decoder,
with an encoder that costs nothing: copies, checks, digests, shards, syncs and the manifest.
"the disk alone" writes and syncs as many files of the same size, two at a time, right before it.
`--folder` is on the disk to be measured; give /dev/shm to see what the processor allows. The
processor's time counts all threads of this process, and the kernel's work for it.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Json, finish, machine, peak_rss, show
from frozen_vqa.cache import CacheSpec, CacheWriter
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.staging import read_staged, stage_shard
from frozen_vqa.cache.format.digests import digest, row_digests
from frozen_vqa.cache.format.finite import largest_by_row
from frozen_vqa.cache.format.hdf5 import build_hdf5
from frozen_vqa.cache.format.shards import CONTENT, THUMBNAIL, NewImages, image_shard
from frozen_vqa.pipeline.extract.chunks import MissingWork
from frozen_vqa.pipeline.extract.decoder import DecodedPicture
from frozen_vqa.pipeline.extract.extract import SHARD_BYTES
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.models.device_copies import DeviceCopies
from frozen_vqa.pipeline.extract.shard_queue import WRITERS, ShardQueue
from frozen_vqa.pipeline.extract.speed.batch_size import BatchSize
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import keep_freed_memory
from frozen_vqa.pipeline.system.ranks import ALONE

GRID, DIM, BATCH = (16, 16), 768, 128


class FreeEncoder:
    """Gives the same features for every batch; stands for both encoders and the decoder."""

    name, device, grid, dim, image_size, window = "free", "cpu", GRID, DIM, 224, None
    settings = {"model": "free"}  # noqa: RUF012

    def __init__(self) -> None:
        states = torch.randn(BATCH, 1 + GRID[0] * GRID[1], DIM).half()
        self.patches, self.cls = states[:, 1:], states[:, 0]
        self._pixels = np.zeros((2, 2, 3), np.uint8)

    def encode(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features without work."""
        return self.patches[: len(pixels)], self.cls[: len(pixels)]

    def decode_batches(
        self, chunks: Sequence[Sequence[int]], *_: object
    ) -> Generator[list[DecodedPicture], None, None]:
        """Yield batches of one picture without work."""
        thumbnail, content = np.zeros(THUMBNAIL, np.uint8), np.zeros(CONTENT, np.uint8)
        for chunk in chunks:
            for first in range(0, len(chunk), BATCH):
                part = chunk[first : first + BATCH]
                yield [DecodedPicture(str(i), self._pixels, thumbnail, content) for i in part]


def stage_one(free: Any, folder: Path, pictures: int) -> None:
    """Store that many pictures in a new cache, with a `FreeEncoder`."""
    encoder = FeatureEncoder(free, free, free, free, "float16")
    encoder.decoder = free
    step = SHARD_BYTES // encoder.spec.image_row_bytes
    chunks = [range(i, min(i + step, pictures)) for i in range(0, pictures, step)]
    work = MissingWork({}, {f"{i:016x}": chunk for i, chunk in enumerate(chunks)}, {})
    with (
        CacheWriter(folder / "cache", encoder.spec) as writer,
        ShardQueue(folder / "cache", work, ALONE, writer) as queue,
        queue.share("images", work.images) as (mine, timer),
        closing(encoder.encode_images(chunks, BatchSize(BATCH), timer)) as encoded,
    ):
        for key in mine:
            put(queue, key, next(encoded), encoder.spec)


def put(queue: ShardQueue, key: str, encoded: Any, spec: CacheSpec) -> None:
    """Hand a chunk over; no other name refers to it then."""
    queue.put("images", key, partial(encoded.to_shard, spec, {}), failures=encoded.failures)


def parts(free: FreeEncoder, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what each part of storing one shard does, by its name."""
    spec = CacheSpec(FreeEncoder.settings, {}, GRID, DIM, 1)
    rows = SHARD_BYTES // spec.image_row_bytes
    patches = torch.randn(rows, *GRID, DIM).half().reshape(rows, -1, DIM).numpy()
    cls = patches[:, 0].copy()
    new = NewImages(
        list(map(str, range(rows))), np.zeros((rows, THUMBNAIL), np.uint8), patches, cls
    )
    shard = image_shard(spec, new)
    copies = DeviceCopies("cpu")
    target = copies.empty(patches.shape, patches.dtype)
    other = folder / "unsynced"

    def copy() -> None:
        for first in range(0, rows, BATCH):
            place = target[first : first + BATCH]
            copies.start(free.patches[: len(place)], place)

    def write() -> None:
        with other.open("wb", buffering=0) as file:
            for piece in shard.pieces:
                file.write(piece)

    def sync() -> None:
        handle = os.open(other, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    return {
        "copies from the encoder": copy,
        "finiteness and maxima": lambda: largest_by_row(patches),
        "digest of each row": lambda: row_digests(patches),
        "layout by h5py": lambda: build_hdf5({"patch_embeddings": patches, "cls": cls}),
        "digest of the file": lambda: digest(*shard.pieces),
        "build: the last four together": lambda: image_shard(spec, new),
        "write": write,
        "fsync": sync,
        "write and fsync, with its record": lambda: stage_shard(
            folder / "cache", "0" * 16, shard, kind="images"
        ),
        "reading another rank's shard": lambda: read_staged(folder / "cache", "images", "0" * 16),
    }


def disk_alone(folder: Path, pictures: int) -> None:
    """Write and sync files of as many bytes as `stage_one` writes, in as many threads."""
    row = (GRID[0] * GRID[1] + 1) * DIM * 2
    data = np.random.default_rng(0).bytes(SHARD_BYTES // row * row)
    with ThreadPoolExecutor(WRITERS) as threads:
        for i in range(-(-pictures * row // len(data))):
            threads.submit(write_atomically, folder / f"{i}", data)


def timed(work: Callable[[], object], pictures: int) -> Json:
    """Return seconds of a call for 1,000 pictures."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": 1000 * wall / pictures, "cpu": 1000 * cpu / pictures}


def summarise(found: Sequence[Json]) -> Json:
    """Return pictures per second, and the processor's milliseconds for each."""
    walls = [one["wall"] for one in found]
    return {
        "pictures/s": 1000 / statistics.median(walls),
        "lowest": 1000 / max(walls),
        "highest": 1000 / min(walls),
        "CPU ms per picture": statistics.median(one["cpu"] for one in found),
    }


def main() -> None:
    """Measure every part in turn, round after round, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--pictures", type=int, default=6800, help="of all of stage one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="write the JSON object here")
    options = parser.parse_args()
    keep_freed_memory()
    found: dict[str, list[Json]] = {}
    result: Json = {"machine": machine(), "folder": str(options.folder or tempfile.gettempdir())}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        console.quiet = True
        free = FreeEncoder()
        stage_one(free, folder, BATCH)  # loads what is loaded late
        each, rows = parts(free, folder), SHARD_BYTES // ((GRID[0] * GRID[1] + 1) * DIM * 2)
        for _ in range(options.rounds):
            for what, work in each.items():
                found.setdefault(what, []).append(timed(work, rows))
            together: dict[str, Callable[[Path, int], None]] = {
                "the disk alone": disk_alone,
                "all of stage one": partial(stage_one, free),
            }
            for what, whole in together.items():
                with tempfile.TemporaryDirectory(dir=options.folder) as empty:
                    work = partial(whole, Path(empty), options.pictures)
                    found.setdefault(what, []).append(timed(work, options.pictures))
        console.quiet = False
    result["parts"] = {what: summarise(times) for what, times in found.items()}
    result["peak_rss_mb"] = peak_rss() / 1e6
    show(
        "256 x 768 patches and CLS, float16", [{"part": k, **v} for k, v in result["parts"].items()]
    )
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
