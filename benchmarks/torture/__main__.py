"""The promises of the cache and of a training under kills, full disks and flipped bits.

    python -m benchmarks.torture --kills 200 --full-disk --flips 2000 --train-kills 20
                                 --run-writes 1 --run-flips 2000 [--ray-kills 5]
                                 [--store-kills 5] [--seed N] [--json]

--kills      A child process extracts several shards and is killed (SIGKILL) at a random instant,
             sometimes twice; a last one resumes. The cache must equal an undisturbed one, byte
             for byte.
--full-disk  The n-th write fails with "no space left", for each n. A small file system is also
             filled up where one can be mounted. No shard that the manifest names may differ, and a
             resume must end in the same bytes.
--flips      One bit of one file is flipped: half of the flips anywhere, half outside the features.
             A reader then reads everything: it must report the file, or find the same values as
             before. verify-cache must find every flip.
--train-kills  A child process trains a head, with dropout, accumulation and a state every
             TRAIN_CHECKPOINT seconds, and is killed (SIGKILL) at a random instant, once to three
             times; a last one resumes. Weights, the best before them, metrics and all other files
             of the run must equal those of an undisturbed one, but for how long it took.
--run-writes  train-head, --resume, --overwrite and evaluate are killed at each call that changes a
             file of a run, and find the disk full there. Every file that is left must have been
             whole in an undisturbed command too, and the next command must end in its files.
--run-flips  One bit of one file of a run is flipped, and the run is scored or resumed. It must be
             refused, or all other files must end as without the flip.
--ray-kills  (needs Ray) About 100 chunks on a cluster of three nodes, with 20 kills of workers,
             nodes and the driver at random places of its way, and a full disk where a small file
             system can be mounted. The same command again must end in the bytes of one process.
--store-kills  (needs s3fs and moto) The same chunks to an S3 store that fails 5 % of the requests,
             cuts 1 % of the answers and is slow, with 20 kills of the process, after a quarter of
             which another machine goes on. The store must end with the bytes of one process and no
             object more; its requests are counted beside those of an undisturbed extraction.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.torture.disk import full_disk
from benchmarks.torture.disturbed import SCENES, Extraction
from benchmarks.torture.flips import flips
from benchmarks.torture.kills import kills, train_kills
from benchmarks.torture.ray_kills import ray_kills
from benchmarks.torture.run_flips import run_flips
from benchmarks.torture.runs import run_writes
from benchmarks.torture.store_kills import store_kills
from frozen_vqa.pipeline.system.console import console


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=0, help="how many trials")
    parser.add_argument("--full-disk", action="store_true", help="fail at every n-th write")
    parser.add_argument("--flips", type=int, default=0, help="how many bits")
    parser.add_argument("--train-kills", type=int, default=0, help="how many trials")
    parser.add_argument("--run-writes", type=int, default=0, help="1: each; n: one of n calls")
    parser.add_argument("--run-flips", type=int, default=0, help="how many bits of runs")
    parser.add_argument("--ray-kills", type=int, default=0, help="how many trials")
    parser.add_argument("--store-kills", type=int, default=0, help="how many trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    extraction = Extraction()
    found: dict[str, dict[str, int]] = {}
    for work in (kills, flips, train_kills):
        if wanted := getattr(options, work.__name__):
            with tempfile.TemporaryDirectory() as folder:
                found[work.__name__] = work(wanted, extraction, Path(folder), rng)
    if options.full_disk:
        with tempfile.TemporaryDirectory() as folder:
            found["full_disk"] = full_disk(extraction, Path(folder))
    if options.run_writes:
        with tempfile.TemporaryDirectory() as folder:
            found |= run_writes(options.run_writes, extraction, Path(folder))
    if options.run_flips:
        with tempfile.TemporaryDirectory() as folder:
            found |= run_flips(options.run_flips, extraction, Path(folder), rng)
    for both in (ray_kills, store_kills):
        if wanted := getattr(options, both.__name__):
            with tempfile.TemporaryDirectory() as folder:
                found[both.__name__] = both(wanted, Path(folder), rng)
    table = Table("part", "found", title=f"{SCENES}, seed {options.seed}")
    for part, counts in found.items():
        table.add_row(part, ", ".join(f"{name} {count}" for name, count in counts.items()))
    console.print(table)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
