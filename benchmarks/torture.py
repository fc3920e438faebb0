"""What the cache and a training promise, under kills, full disks and flipped bits.

    python benchmarks/torture.py --kills 200 --full-disk --flips 2000 --train-kills 20
                                 [--seed N] [--json]

--kills      A child process extracts several shards and is killed (SIGKILL) at a random instant,
             sometimes twice; a last one resumes. The cache must equal an undisturbed one, byte
             for byte.
--full-disk  Every n-th write fails with "no space left", for all n until none is left to fail;
             where a small file system can be mounted, that is filled up as well. No shard that the
             manifest names may differ, and a resume must end in the same bytes.
--flips      One bit of one file is flipped, half of them anywhere, half in what is no feature. A
             reader then reads all there is: it must report the file, or find what it found
             before. verify-cache must find every flip.
--train-kills  A child process trains a head, with dropout, accumulation and a state every
             TRAIN_CHECKPOINT seconds, and is killed (SIGKILL) at a random instant, once to three
             times; a last one resumes. Weights, the best before them, metrics and all other files
             of the run must equal those of an undisturbed one, but for how long it took.

Children are forked from a process that has loaded everything, so that a trial takes a second.
"""

import argparse
import ctypes
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from rich.table import Table

from cache import CacheError, FeatureCache, load_manifest
from cache.hdf5 import Hdf5File
from cache.verify import check_copies, check_file
from pipeline import train
from pipeline.config import TrainConfig
from pipeline.display import console, progress
from pipeline.encoders import ImageEncoder, TextEncoder
from pipeline.extract import extract
from pipeline.plan import make_plan
from pipeline.sources import open_source
from pipeline.state import has_state

SCENES = "shapes:96"
SPLITS = ("train", "val", "test")
SHARD_BYTES = 384 << 10
HANG_SECONDS = 5.0
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DAMAGED, BROKEN = 1, 70
TRAINING = TrainConfig(
    width=64, epochs=8, batch_size=32, accumulate=2, dropout=0.2, min_answer_count=1
)
TRAIN_CHECKPOINT = 0.05
TIMES = ("seconds", "questions_per_second", "data_wait_fraction", "xxh3")


class Extraction:
    """Everything that a child needs, loaded before it is forked."""

    def __init__(self) -> None:
        torch.set_num_threads(1)  # a forked child has no other threads
        self.source = open_source(SCENES)
        self.images = ImageEncoder("tiny")
        self.text = TextEncoder("tiny")
        self.plan = make_plan(self.source, splits=SPLITS, text=self.text)
        _ = self.images.weights, self.text.weights

    def run(self, cache: Path) -> None:
        """Extract into `cache`, or go on with it."""
        extract(
            self.source,
            self.plan,
            cache=cache,
            images=self.images,
            text=self.text,
            batch_size=4,
            shard_bytes=SHARD_BYTES,
        )


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a child; it exits with 0, 1 (a cache error) or 70 (any other)."""
    pid = os.fork()
    if pid:
        return pid
    code = BROKEN
    try:
        console.quiet = True
        work()
        code = 0
    except CacheError:
        code = DAMAGED
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for a child; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def tree(cache: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a cache but the lock and the log."""
    others = (".lock", "extractions.jsonl")
    files = (
        path for path in cache.rglob("*") if path.is_file() and not path.name.startswith(others)
    )
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def killed(extraction: Extraction, cache: Path, after: float) -> bool:
    """Extract in a child that is killed after some seconds; return whether it still ran."""
    pid = fork(lambda: extraction.run(cache))
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    return ended(pid) == -signal.SIGKILL


def resumed(extraction: Extraction, cache: Path, whole: dict[str, bytes]) -> bool:
    """Whether an extraction that goes on ends in the bytes of an undisturbed one."""
    return ended(fork(lambda: extraction.run(cache))) == 0 and tree(cache) == whole


def kills(count: int, extraction: Extraction, scratch: Path, rng: random.Random) -> dict[str, int]:
    """Kill at random instants; resume; compare."""
    whole, seconds = undisturbed(extraction, scratch)
    found = Counter(run=0, identical=0, killed=0)
    with progress("kills", count) as advance:
        for _ in range(count):
            cache = scratch / "killed"
            for _ in range(rng.choice((1, 1, 2))):
                found["killed"] += killed(extraction, cache, rng.uniform(0, seconds))
            found["identical"] += resumed(extraction, cache, whole)
            found["run"] += 1
            shutil.rmtree(cache)
            advance(1, note=f"{found['identical']} identical")
    return dict(found)


def undisturbed(extraction: Extraction, scratch: Path) -> tuple[dict[str, bytes], float]:
    """Return the cache that every disturbed one has to equal, and how long a child takes."""
    for name in ("first", "whole"):  # the first run of all finds cold files
        cache = scratch / name
        started = time.monotonic()
        code = ended(fork(lambda cache=cache: extraction.run(cache)))  # type: ignore[misc]
        seconds = time.monotonic() - started
        assert code == 0, "the undisturbed extraction failed"
    return tree(cache), seconds


def trained(cache: Path, run: Path, *, killed_after: float | None = None) -> int:
    """Train in a child, or go on with what is there; return how it ended."""

    def work() -> None:
        train.CHECKPOINT_SECONDS = TRAIN_CHECKPOINT
        begun = has_state(run) or (run / "model.safetensors").exists()
        cpu = torch.device("cpu")
        train.train(cache, run, config=TRAINING, device=cpu, overwrite=not begun, resume=begun)

    pid = fork(work)
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(pid, signal.SIGKILL)
    return ended(pid)


def without_times(run: Path) -> dict[str, Any]:
    """Return the content of every file of a run, but for how long it took."""
    found: dict[str, Any] = tree(run)
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    lines.append(json.loads(found.pop("run.json")))
    found["metrics.jsonl"] = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return found


def train_kills(
    count: int, extraction: Extraction, scratch: Path, rng: random.Random
) -> dict[str, int]:
    """Kill trainings at random instants; resume; compare."""
    cache, run = scratch / "cache", scratch / "run"
    extraction.run(cache)
    for _ in range(2):  # the first finds cold files
        shutil.rmtree(run, ignore_errors=True)
        started = time.monotonic()
        assert trained(cache, run) == 0, "the undisturbed training failed"
        seconds = time.monotonic() - started
    whole = without_times(run)
    found = Counter(run=0, identical=0, killed=0)
    with progress("train kills", count) as advance:
        for _ in range(count):
            shutil.rmtree(run)
            times = rng.randint(1, 3)
            for _ in range(times):
                after = rng.uniform(0, seconds / times)
                found["killed"] += trained(cache, run, killed_after=after) == -signal.SIGKILL
            found["identical"] += trained(cache, run) == 0 and without_times(run) == whole
            found["run"] += 1
            advance(1, note=f"{found['identical']} identical")
    return dict(found)


class FailingWrites:
    """Lets the n-th call to the kernel that writes fail: half of the bytes, then a full disk."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.write, self.fsync, self.replace = os.write, os.fsync, os.replace

    def install(self) -> None:
        """Take the place of the real calls, in this process."""
        os.write, os.fsync, os.replace = self._write, self._fsync, self._replace  # type: ignore

    def _fails(self) -> bool:
        self.left -= 1
        return self.left == 0

    def _write(self, handle: int, data: memoryview) -> int:
        if self._fails():
            self.write(handle, data[: len(data) // 2])
            raise FULL
        return self.write(handle, data)

    def _fsync(self, handle: int) -> None:
        if self._fails():
            raise FULL
        self.fsync(handle)

    def _replace(self, source: Path, target: Path) -> None:
        if self._fails():
            raise FULL
        self.replace(source, target)


def full_disk(extraction: Extraction, scratch: Path) -> dict[str, int]:
    """Fail at every n-th write; then fill a real file system, where one can be mounted."""
    whole, seconds = undisturbed(extraction, scratch)
    found = Counter(run=0, recovered=0, crashes=0, silent=0, real=0)

    def judge(code: int, cache: Path) -> None:
        found["run"] += 1
        found["crashes"] += code not in (0, DAMAGED)
        found["silent"] += not sound(cache, whole)
        found["recovered"] += resumed(extraction, cache, whole)

    n, code = 0, DAMAGED
    while code != 0:
        n += 1
        cache = scratch / "full"

        def work(n: int = n, cache: Path = cache) -> None:
            FailingWrites(n).install()
            extraction.run(cache)

        code = ended(fork(work))
        judge(code, cache)
        shutil.rmtree(cache)
        if n % 20 == 0:
            console.print(f"full disk: {n} writes failed, {found['recovered']} recovered")
    if mount := small_disk(scratch / "disk", 2 * sum(map(len, whole.values()))):
        for turn in range(20):
            judge(filled_up(extraction, mount, after=seconds * turn / 20), mount / "cache")
            found["real"] += 1
            shutil.rmtree(mount / "cache")
        ctypes.CDLL(None).umount(str(mount).encode())
    return dict(found)


def sound(cache: Path, whole: dict[str, bytes]) -> bool:
    """Whether all that a manifest names is there and as it should be: no zeros, no halves."""
    if not (cache / "cache.json").exists():
        return True
    return all(
        (cache / record.file).read_bytes() == whole[record.file]
        for record in load_manifest(cache).files
    )


def small_disk(place: Path, size: int) -> Path | None:
    """Mount a file system in memory of this many bytes; None where that is not allowed."""
    place.mkdir()
    options = f"size={size}".encode()
    if ctypes.CDLL(None).mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, options) == 0:
        return place
    console.print("full disk: no file system can be mounted here; only injected failures were run")
    return None


def filled_up(extraction: Extraction, mount: Path, *, after: float) -> int:
    """Extract while the file system runs full after some seconds; return the exit code."""
    ballast = mount / "ballast"
    pid = fork(lambda: extraction.run(mount / "cache"))
    time.sleep(after)
    with ballast.open("wb", buffering=0) as file:
        try:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                try:
                    file.write(bytes(4096))
                except OSError:
                    time.sleep(0.001)
        except ChildProcessError:
            pass
    ballast.unlink()
    return DAMAGED


@dataclass(frozen=True)
class Flip:
    """One bit of one file of a cache."""

    file: str
    byte: int
    bit: int


def flips(count: int, extraction: Extraction, scratch: Path, rng: random.Random) -> dict[str, int]:
    """Flip bits, and let a child read what is left."""
    whole, _ = undisturbed(extraction, scratch)
    chosen = choose_flips(count, scratch / "whole", whole, rng)
    found = Counter(run=0, reported=0, harmless=0, silent=0, hangs=0, crashes=0, verified=0)
    kept: list[Flip] = []
    child, ask = start_reader(scratch / "whole")
    with progress("flips", count) as advance:
        for flip in chosen:
            ask.send(flip)
            try:
                if ask.poll(HANG_SECONDS):
                    outcome, verified = ask.recv()
                else:
                    outcome, verified = "hangs", False
            except EOFError:
                outcome, verified = "crashes", False
            if outcome in ("hangs", "crashes"):
                os.kill(child, signal.SIGKILL)
                ended(child)
                child, ask = start_reader(scratch / "whole")
            found.update({"run": 1, outcome: 1, "verified": int(verified)})
            if outcome not in ("reported", "harmless") or not verified:
                kept.append(flip)
                console.print(f"{outcome}, verified {verified}: {flip}")
            advance(1)
    ask.close()
    ended(child)
    return dict(found)


def choose_flips(
    count: int, cache: Path, whole: dict[str, bytes], rng: random.Random
) -> list[Flip]:
    """Choose bits in every file: half anywhere, half in what is not a row of features."""
    outside: dict[str, np.ndarray] = {}
    for file, data in whole.items():
        mark = np.ones(len(data), dtype=bool)
        if file.endswith(".h5"):
            for name, extent in Hdf5File(cache / file, memoryview(data)).layout.items():
                if name in ("patch_embeddings", "cls", "hidden_states"):
                    mark[extent.offset : extent.offset + extent.nbytes] = False
        outside[file] = np.flatnonzero(mark)
    files = sorted(whole)
    chosen = []
    for number in range(count):
        file = files[number % len(files)]
        byte = rng.randrange(len(whole[file])) if number % 2 else rng.choice(outside[file])
        chosen.append(Flip(file, int(byte), rng.randrange(8)))
    return chosen


def start_reader(cache: Path) -> tuple[int, Connection]:
    """Fork a child that answers each flip with what a reader and verify-cache make of it."""
    ours, theirs = Pipe()

    def work() -> None:
        ours.close()
        with tempfile.TemporaryDirectory() as folder:
            mine = Path(folder) / "cache"
            shutil.copytree(cache, mine)
            before = everything(mine)
            while True:
                try:
                    flip: Flip = theirs.recv()
                except EOFError:
                    return
                path = mine / flip.file
                data = bytearray(path.read_bytes())
                data[flip.byte] ^= 1 << flip.bit
                kept = path.read_bytes()
                path.write_bytes(data)
                theirs.send((outcome(mine, before, flip), found_by_verify(mine)))
                path.write_bytes(kept)

    pid = fork(work)
    theirs.close()
    return pid, ours


def outcome(cache: Path, before: list[Any], flip: Flip) -> str:
    """Return what becomes of a reader: "reported", "harmless" or "silent"."""
    try:
        return "harmless" if everything(cache) == before else "silent"
    except CacheError as error:
        return "reported" if str(cache / flip.file) in str(error) else "silent"


def everything(cache: Path) -> list[Any]:
    """Return all that a reader can ask for, as values that can be compared."""
    features = FeatureCache(cache)
    spec, rows = features.spec, features.manifest.image_rows
    patches = np.empty((rows, spec.patches, spec.vision_dim), spec.dtype)
    features.read_images(np.arange(rows), patches)
    questions = features.questions
    found: list[Any] = [spec.settings(), features.manifest.failures, features.image_ids()]
    found += [patches.tobytes(), list(questions.texts), questions.hidden_states.tobytes()]
    found += [questions.path_rows.tobytes(), questions.path_offsets.tobytes()]
    for name in features.manifest.splits:
        table = features.split(name)
        found += [name, table.question_ids, table.image_rows.tolist(), table.answers]
        found += [table.question_rows.tolist(), table.question_types, table.answer_types]
    return found


def found_by_verify(cache: Path) -> bool:
    """Whether verify-cache finds something."""
    try:
        manifest = load_manifest(cache)
    except CacheError:
        return True
    damage = [check_file(cache, manifest, record) for record in manifest.files]
    return any(damage) or bool(check_copies(cache, manifest))


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=0, help="how many trials")
    parser.add_argument("--full-disk", action="store_true", help="fail at every n-th write")
    parser.add_argument("--flips", type=int, default=0, help="how many bits")
    parser.add_argument("--train-kills", type=int, default=0, help="how many trials")
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
    table = Table("part", "found", title=f"{SCENES}, seed {options.seed}")
    for part, counts in found.items():
        table.add_row(part, ", ".join(f"{name} {count}" for name, count in counts.items()))
    console.print(table)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
