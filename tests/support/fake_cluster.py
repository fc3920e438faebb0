"""A cluster in this process, whose workers die when a test says so.

Everything that a real cluster would send is pickled. A worker that dies with a call may have done
its work before, or a part of it, or nothing.
"""

import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.extract.engines.crew import LostWorkerError
from frozen_vqa.pipeline.extract.engines.worker import Worker

ELSEWHERE = Path("/nowhere/witness")


def nothing() -> None:
    """What happens at a look at the calls, unless a test wants more."""


@dataclass
class FakeCluster:
    """`nodes` with one worker each.

    Attributes:
        deadly: The share of calls with which a worker dies.
        fatal: The only method with which it does; "" for any.
        sees: Whether workers see the folder of the cache.
        before: Called before each look at the calls.
    """

    nodes: int = 2
    rng: random.Random = field(default_factory=random.Random)
    deadly: float = 0.0
    fatal: str = ""
    sees: bool = True
    before: Callable[[], None] = nothing
    device: str = "cpu"
    workers: dict[int, Worker] = field(default_factory=dict)
    calls: dict[int, tuple[int, str, Any]] = field(default_factory=dict)
    started: int = 0
    most_asked: int = 0

    def room(self) -> int:
        return self.nodes

    def start(self, worker: Worker) -> int:
        self.started += 1
        self.workers[self.started] = pickle.loads(pickle.dumps(worker))
        return self.started

    def ask(self, handle: int, method: str, *given: Any) -> int:
        if method == "prepare" and not self.sees:
            given = (replace(given[0], witness=ELSEWHERE),)
        call = len(self.calls) + 1
        self.calls[call] = (handle, method, pickle.dumps(given))
        return call

    def wait(self, calls: Sequence[int], _: float) -> list[int]:
        self.before()
        self.most_asked = max(self.most_asked, len(calls))
        return self.rng.sample(calls, min(len(calls), self.rng.randint(1, 3)))

    def answer(self, call: int) -> tuple[str, Any]:
        handle, method, given = self.calls[call]
        worker = self.workers.get(handle)
        dies = self.rng.random() < self.deadly and self.fatal in ("", method)
        if worker and not (dies and self.rng.random() < 0.5):
            try:
                found = getattr(worker, method)(*pickle.loads(given))
            except (PipelineError, CacheError) as error:
                raise type(error)(f"node {handle}: {error}") from None
            if not dies:
                return f"node {handle}", pickle.loads(pickle.dumps(found))
        self.workers.pop(handle, None)
        raise LostWorkerError("it was killed")

    def stop(self, handle: int) -> None:
        self.workers.pop(handle, None)
