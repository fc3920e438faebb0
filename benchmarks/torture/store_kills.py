"""Extractions to a store that misbehaves, killed and sometimes on another machine afterwards."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.harness import ROOT
from benchmarks.torture import ray_driver
from benchmarks.torture.disturbed import ended, fork, tree
from benchmarks.torture.ray_kills import finished
from frozen_vqa.cache import CacheError
from frozen_vqa.cache.format.manifest import NAME
from frozen_vqa.cache.stores import copies, lease, store
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.pull import plan_pull, pull_cache
from frozen_vqa.cache.stores.push import CARD
from frozen_vqa.pipeline.share import writing
from frozen_vqa.pipeline.system.console import console

KILLS, LOST = 20, 0.25
"""Kills of a trial, and the chance that what the process has built is gone, too."""

EVERY, FIRST_WAIT = 0.5, 0.05
"""Seconds between two uploads, and before a second try: shorter than usual, to have more."""

PATIENCE = 600.0
"""Seconds after which a trial counts as hung."""


@contextmanager
def faulty_s3() -> Iterator[Callable[[bool | None], dict[str, int]]]:
    """Run the server with a bucket; yield what sets its faults (None: leaves) and counts."""
    words = [sys.executable, "-m", "benchmarks.torture.faulty_s3"]
    path = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as process:
        assert process.stdin
        assert process.stdout
        address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        os.environ |= {
            "AWS_ENDPOINT_URL": address,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }

        def ask(on: bool | None) -> dict[str, int]:
            words = "" if on is None else f"?on={int(on)}"
            with urlopen(
                Request(f"{address}/faults{words}", method="POST" if words else "GET")
            ) as a:
                return dict(json.load(a))

        with urlopen(Request(f"{address}/caches", method="PUT")):
            yield ask
        process.stdin.close()


def extract_to(url: str, stage: Path) -> None:
    """Extract to a URL, or go on with it."""
    writing.EVERY, store.FIRST_WAIT = EVERY, FIRST_WAIT
    try:
        with writing.written_at(url, stage) as folder:
            ray_driver.run(folder, slow=True)
    except CacheError as error:
        console.quiet = False
        console.print(f"stopped: {error}")
        raise


def check(url: str, whole: dict[str, bytes], folder: Path) -> None:
    """Raise unless the URL has the cache of one undisturbed process, and nothing else."""
    there = open_store(url)
    manifest = copies.require_manifest(there)
    names = {copies.object_name(record) for record in (*manifest.files, *manifest.pages)}
    found = set(there.sizes(""))
    assert found == names | {NAME, CARD}, found ^ (names | {NAME, CARD})
    assert not there.sizes(lease.FOLDER)
    pull_cache(there, folder, plan_pull(there, folder, ()), advance=lambda _: None)
    assert tree(folder) == whole


def trial(url: str, stage: Path, chunks: int, rng: random.Random) -> Counter[str]:
    """Extract to a URL, killed at `KILLS` places of the way; return what was done."""
    place = stage / "growing" / url.replace("://", "/")
    due = sorted(rng.choices(range(int(0.9 * chunks)), k=KILLS))
    found, started = Counter(runs=1, kills=0, lost=0), time.monotonic()
    running = fork(partial(extract_to, url, stage))
    while time.monotonic() - started < PATIENCE:
        done, status = os.waitpid(running, os.WNOHANG)
        if done:
            if status == 0:
                return found
            found["stopped"] += 1  # a store that fails five times, and says so
        elif due and finished(place) >= due[0]:
            due.pop(0)
            time.sleep(rng.uniform(0, EVERY))
            os.kill(running, signal.SIGKILL)
            ended(running)
            found["kills"] += 1
            if rng.random() < LOST:
                shutil.rmtree(stage)
                found["lost"] += 1
        else:
            time.sleep(0.02)
            continue
        found["runs"] += 1
        running = fork(partial(extract_to, url, stage))
    with suppress(OSError):
        os.kill(running, signal.SIGKILL)
        ended(running)
    return found


def store_kills(count: int, scratch: Path, rng: random.Random) -> dict[str, int]:
    """Run trials; count those that ended in the bytes of one process."""
    import s3fs  # noqa: F401 - so that no child has to

    console.quiet = True
    ray_driver.run(scratch / "whole")
    whole, chunks = tree(scratch / "whole"), finished(scratch / "whole")
    total: Counter[str] = Counter(run=0, identical=0, chunks=chunks)
    with faulty_s3() as ask:
        ask(False)
        assert ended(fork(partial(extract_to, "s3://caches/usual", scratch / "usual"))) == 0
        usual = ask(None)
        for number in range(count):
            url, stage = f"s3://caches/{number}", scratch / "stage"
            ask(True)
            began = time.monotonic()
            found = trial(url, stage, chunks, rng)
            asked = ask(None)
            ask(False)
            with tempfile.TemporaryDirectory() as folder:
                same = ended(fork(partial(check, url, whole, Path(folder) / "back"))) == 0
            total.update({"run": 1, "identical": same, **found, **asked})
            console.quiet = False
            console.print(
                f"store kills, trial {number}: {'the same bytes' if same else 'NOT the same'}, "
                f"{dict(found)}, {asked}, undisturbed {usual}, {time.monotonic() - began:.0f} s"
            )
            console.quiet = True
            shutil.rmtree(stage, ignore_errors=True)
    console.quiet = False
    return dict(total)
