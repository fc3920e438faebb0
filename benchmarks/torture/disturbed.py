"""Extractions in child processes that can be killed, and the result of an undisturbed one.

Children are forked from a process that has loaded everything, so that a trial takes a second.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.system.console import console

SCENES = "shapes:96"
SPLITS = ("train", "val", "test")
SHARD_BYTES = 384 << 10
DAMAGED, BROKEN = 1, 70


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
    others = (".lock", ".frozen-vqa", "extractions.jsonl")
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


def undisturbed(extraction: Extraction, scratch: Path) -> tuple[dict[str, bytes], float]:
    """Return the cache that every disturbed one has to equal, and how long a child takes."""
    for name in ("first", "whole"):  # the first run of all finds cold files
        cache = scratch / name
        started = time.monotonic()
        code = ended(fork(lambda cache=cache: extraction.run(cache)))  # type: ignore[misc]
        seconds = time.monotonic() - started
        assert code == 0, "the undisturbed extraction failed"
    return tree(cache), seconds
