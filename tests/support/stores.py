"""Stores in memory that count what they are asked, fail, cut, answer slowly, and die."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.format.small_files import LOG
from frozen_vqa.cache.stores import bucket, store
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.pull import plan_pull, pull_cache
from frozen_vqa.cache.stores.push import Pushed, push_cache
from frozen_vqa.pipeline.sources.pictures import stored
from tests.support.several_shards import write

URL, MARK = "memory://bucket/vqa", b"<!-- ours -->"
ASKED = ("find", "cat_file", "pipe_file", "rm_file")


class Killed(BaseException):
    """Stands for the end of a process."""


@dataclass
class Flaky:
    """A file system in memory that `refuses` some names.

    From call number `dies` on, nothing is done any more.

    A call that dies may have been done: the answer alone is lost, if `after` is set. So is that of
    call number `loses`, and the process lives.
    """

    fails: float = 0.0
    cuts: float = 0.0
    seconds: float = 0.0
    refuses: tuple[str, ...] = ()
    dies: int | None = None
    after: bool = False
    loses: int | None = None
    seed: int = 0
    calls: int = 0
    failed: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._real = MemoryFileSystem(skip_instance_cache=True)
        self._random = random.Random(self.seed)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._watched(name, real) if name in ASKED else real

    def _watched(self, name: str, real: Any) -> Any:
        def call(path: str, *args: Any, **how: Any) -> Any:
            self.calls += 1
            self.asked[name] += 1
            dead = self.dies is not None and self.calls >= self.dies
            if dead and not (self.after and self.calls == self.dies):
                raise Killed
            time.sleep(self.seconds)
            if self._random.random() < self.fails:
                self.failed += 1
                raise OSError("SlowDown")
            if path.endswith(self.refuses or ("\0",)):
                raise PermissionError("Access Denied")
            if name == "pipe_file":
                how.pop("chunksize")
            found = real(path, *args, **how)
            if name == "pipe_file":
                self.sent[path] += 1
            if dead:
                raise Killed
            if self.calls == self.loses:
                raise OSError("the answer was lost")
            if name == "cat_file" and self._random.random() < self.cuts:
                return found[: len(found) // 2]
            return found

        return call


@contextmanager
def memory(patch: pytest.MonkeyPatch, flaky: Flaky | None = None) -> Iterator[Flaky]:
    """Let memory:// be this store in the block; what lies there stays."""
    flaky = flaky or Flaky()
    with patch.context() as inner:
        inner.setattr(bucket, "_open", lambda _: flaky)
        inner.setattr(store, "FIRST_WAIT", 0.0)
        inner.setattr(stored, "_buckets", {})
        yield flaky


def forget() -> None:
    """Empty the memory."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def objects() -> dict[str, bytes]:
    """Return all that lies in the memory."""
    return {path: bytes(one.getbuffer()) for path, one in MemoryFileSystem.store.items()}


def push(directory: Path, url: str = URL, card: bytes = MARK + b" card") -> Pushed:
    """Push a cache."""
    manifest = load_manifest(directory)
    return push_cache(
        directory, manifest, open_store(url), card=card, mark=MARK, advance=lambda _: None
    )


def pull(directory: Path, *splits: str, url: str = URL) -> int:
    """Pull a cache; return how many files came."""
    opened = open_store(url)
    plan = plan_pull(opened, directory, splits)
    pull_cache(opened, directory, plan, advance=lambda _: None)
    return len(plan.lacks)


def content(directory: Path) -> dict[str, bytes]:
    """Return the files of a cache, without those that tell of a machine."""
    own = {".lock", ".frozen-vqa", LOG}
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in paths
        if path.name not in own
    }


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("caches") / "one"
    write(directory)
    return directory
