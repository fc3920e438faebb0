"""Extractions on a Ray cluster whose workers, nodes and driver are killed; and one full disk."""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.torture import ray_driver
from benchmarks.torture.disk import small_disk
from benchmarks.torture.disturbed import tree
from frozen_vqa.pipeline.system.console import console

KILLS, NODES = 20, 3
WEIGHTS = {"worker": 10, "node": 5, "driver": 5}
PATIENCE = 900.0
"""Seconds after which a trial counts as hung."""


@contextmanager
def small_cluster() -> Iterator[Any]:
    """Yield a head without cores and `NODES` nodes of one core, all on this machine."""
    # Ray would start workers at niceness 15, and wait 30 s for a node; this machine may be busy.
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "300",
    }
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=1, wait=False)
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def unmounted(disk: Path | None) -> Iterator[None]:
    """Take a small disk away at the end."""
    try:
        yield
    finally:
        if disk:
            ctypes.CDLL(None).umount(str(disk).encode())


def finished(cache: Path) -> int:
    """Return how many chunks are staged or adopted."""
    patterns = ("images/*.h5", "questions/*.h5", "images/*.shard", "questions/*.shard")
    return sum(len(list(cache.glob(pattern))) for pattern in patterns)


def workers(cluster: Any) -> list[int]:
    """Return the processes of all workers on the nodes of this cluster."""
    raylets = {
        info.process.pid
        for node in cluster.worker_nodes
        for info in node.all_processes.get("raylet", ())
    }
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            said = (place / "cmdline").read_bytes()
            if int(fields[1]) in raylets and said.startswith(b"ray::_Actor"):
                found.append(int(place.name))
    return found


class Trial:
    """One extraction, disturbed until it ends."""

    def __init__(self, cluster: Any, cache: Path, rng: random.Random, log: Path) -> None:
        self.cluster, self.cache, self.rng, self.log = cluster, cache, rng, log
        self.killed: Counter[str] = Counter()
        self.drivers = 0
        self.driver = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a driver, as a user does who runs the same command again."""
        self.drivers += 1
        module = "benchmarks.torture.ray_driver"
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, str(self.cache), self.cluster.address],
                stderr=log,
                stdout=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def kill(self, what: str) -> None:
        """Kill a worker, a node (another one comes), or the driver."""
        if what == "worker":
            deadline = time.monotonic() + 60
            while not (there := workers(self.cluster)) and time.monotonic() < deadline:
                time.sleep(0.2)
            if there:
                os.kill(self.rng.choice(there), signal.SIGKILL)
        elif what == "node":
            node = self.rng.choice(sorted(self.cluster.worker_nodes, key=lambda one: one.node_id))
            self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.add_node(num_cpus=1, wait=False)
        else:
            self.driver.kill()
        self.killed[what] += 1

    def fill(self, disk: Path) -> None:
        """Let the disk be full until the driver has said so."""
        with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        with suppress(subprocess.TimeoutExpired):
            self.driver.wait(120)
        (disk / "ballast").unlink()
        self.killed["full disk"] += 1

    def run(self, whole: int, disk: Path | None) -> bool:
        """Disturb the extraction at `KILLS` places of its way; return whether it ended."""
        due = sorted(self.rng.choices(range(int(0.55 * whole)), k=KILLS))
        kinds = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=KILLS)
        plan = list(zip(due, kinds, strict=True))
        if disk:
            plan.insert(KILLS // 2, (due[KILLS // 2], "full disk"))
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE:
            if (code := self.driver.poll()) is not None:
                if code == 0:
                    return True
                self.driver = self.start()
            elif plan and finished(self.cache) >= plan[0][0]:
                what = plan.pop(0)[1]
                if what == "full disk" and disk:
                    self.fill(disk)
                else:
                    self.kill(what)
                time.sleep(self.rng.uniform(0, 1))
            time.sleep(0.05)
        self.driver.kill()
        return False


def ray_kills(count: int, scratch: Path, rng: random.Random) -> dict[str, int]:
    """Run trials; count those that ended in the bytes of one process."""
    console.quiet = True
    ray_driver.run(scratch / "whole")
    console.quiet = False
    whole = tree(scratch / "whole")
    chunks = finished(scratch / "whole")
    disk = small_disk(scratch / "disk", 8 * sum(map(len, whole.values())) + (1 << 22))
    found: Counter[str] = Counter(run=0, identical=0, chunks=chunks)
    with unmounted(disk), small_cluster() as cluster:
        for number in range(count):
            cache, began = (disk or scratch) / "cache", time.monotonic()
            (scratch / "log").unlink(missing_ok=True)
            trial = Trial(cluster, cache, rng, scratch / "log")
            ended = trial.run(chunks, disk)
            same = ended and tree(cache) == whole
            found.update({"run": 1, "identical": same, "drivers": trial.drivers, **trial.killed})
            console.print(
                f"ray kills, trial {number}: {'the same bytes' if same else 'NOT the same'}, "
                f"{dict(trial.killed)}, {trial.drivers} drivers, "
                f"{time.monotonic() - began:.0f} s"
            )
            if not same:
                console.print(*(scratch / "log").read_text(errors="replace").splitlines()[-40:])
                there = tree(cache)
                console.print(str(sorted(n for n in there | whole if there.get(n) != whole.get(n))))
            shutil.rmtree(cache)
    return dict(found)
