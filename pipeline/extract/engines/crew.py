"""The workers of one extraction: started where a node has room, and forgotten when they die."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.extract.engines.nodes import Nodes
from frozen_vqa.pipeline.extract.engines.task import Preparation, Task
from frozen_vqa.pipeline.extract.engines.worker import AT_ONCE, Worker
from frozen_vqa.pipeline.system.console import console, duration

PATIENCE = 600.0
"""Seconds without any node that has room for a worker, after which the driver gives up."""

LOOK, SAY = 5.0, 30.0
"""Seconds between two looks at the nodes, and between two lines that nothing can be done."""

MOST_LOSSES = 8
"""Workers that one chunk, or the start of a worker, may cost; the cause is in the work then."""


class LostWorkerError(Exception):
    """A worker is gone, or cannot be reached; the message says why."""


class Cluster(Protocol):
    """Runs workers on some nodes. A handle stands for a worker, a call for what it was asked.

    `device` is "cuda" or "cpu": what each worker has for itself.
    """

    device: str

    def room(self) -> int:
        """Return how many workers the nodes that are there have room for."""
        ...

    def start(self, worker: Worker) -> Any:
        """Ask for a worker; return its handle at once, though it may wait for a node."""
        ...

    def ask(self, handle: Any, method: str, *given: object) -> Any:
        """Let a worker run a method; return the call at once."""
        ...

    def wait(self, calls: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Return those calls that are over, as soon as one is; none after some seconds."""
        ...

    def answer(self, call: Any) -> tuple[str, Any]:
        """Return the name of the worker's node, and what the method returned.

        Raises:
            LostWorkerError: if the worker died before.
            PipelineError, CacheError: what the method raised.
        """
        ...

    def stop(self, handle: Any) -> None:
        """End a worker."""
        ...


@dataclass
class Hand:
    """A worker, and the chunks that it has; it gets none before its node is known."""

    handle: Any
    node: str = ""
    tasks: dict[Any, Task] = field(default_factory=dict)  # by call


class Crew:
    """Keeps as many workers as are `wanted`, or as the nodes have room for if that is None."""

    def __init__(self, cluster: Cluster, make: Callable[[], Worker], wanted: int | None) -> None:
        self._cluster, self._make, self._wanted = cluster, make, wanted
        self.hands: list[Hand] = []
        self.nodes = Nodes()
        self._starting: dict[Any, Hand] = {}  # by the call that prepares it
        self._preparation: Preparation | None = None
        self._losses: Counter[str] = Counter()
        self._room_seen = self._said = time.monotonic()
        self._looked = self._said - LOOK

    def prepare(self, preparation: Preparation) -> None:
        """Let all workers prepare themselves, those that are there and those that come."""
        self._preparation = preparation
        self._room_seen = self._said = time.monotonic()  # it may be long since the start
        for hand in self.hands:
            self._prepare(hand)

    def calls(self) -> Iterator[Any]:
        """Yield all calls that are not answered yet."""
        yield from self._starting
        for hand in self.hands:
            yield from hand.tasks

    def whose(self, call: Any) -> Hand | None:
        """Return the worker of a call; None if it is lost."""
        every = (hand for hand in self.hands if call in hand.tasks)
        return self._starting.get(call) or next(every, None)

    def is_start(self, call: Any, node: str, device: str) -> bool:
        """Whether this call was the start of a worker, who can take chunks from now on."""
        if not (hand := self._starting.pop(call, None)):
            return False
        hand.node = node
        self._losses["start"] = 0
        self.nodes.joined(node, device)
        return True

    def idlest(self) -> Hand | None:
        """Return a worker that can take a chunk."""
        free = [hand for hand in self.hands if hand.node and len(hand.tasks) < AT_ONCE]
        return min(free, key=lambda hand: len(hand.tasks), default=None)

    def look(self) -> None:
        """Start workers where there is room; give up if there was none for long."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked, room = now, self._cluster.room()
        if self._preparation:
            for _ in range(len(self.hands), self._wanted or room):
                self._prepare(self.start())
        if room:
            self._room_seen = now
        if any(hand.node for hand in self.hands):
            self._room_seen = self._said = now
            return
        what = f"no node of the cluster has room for a worker ({self._cluster.device})"
        if (waited := now - self._room_seen) > PATIENCE:
            raise PipelineError(
                f"{what}, and there was none for {duration(waited)}. Every finished chunk is "
                f"stored; when there are nodes again, run the same command to go on."
            )
        if now - self._said > SAY:
            self._said = now
            if room:
                console.print(
                    f"workers asked for: {len(self.hands)}; none is ready yet, because it loads "
                    f"its models, or another job of the cluster has the nodes"
                )
            else:
                console.print(f"{what}; waiting for one, {duration(PATIENCE - waited)} at most")

    def start(self) -> Hand:
        """Ask for one more worker."""
        hand = Hand(self._cluster.start(self._make()))
        self.hands.append(hand)
        return hand

    def _prepare(self, hand: Hand) -> None:
        self._starting[self._cluster.ask(hand.handle, "prepare", self._preparation)] = hand

    def lose(self, hand: Hand, reason: str) -> None:
        """Forget a worker; raise `PipelineError` if something kills one after the other."""
        self.hands.remove(hand)
        self._cluster.stop(hand.handle)
        self._starting = {call: one for call, one in self._starting.items() if one is not hand}
        self._looked -= LOOK  # another one may start at once
        if hand.node:
            self.nodes.lost(hand.node)
            console.print(
                f"a worker on {hand.node} is gone ({reason}); chunks of its that others get: "
                f"{len(hand.tasks)}"
            )
        causes = {task.key: f"with the {task}" for task in hand.tasks.values()}
        for cause, what in causes.items() if hand.node else [("start", "before they were ready")]:
            self._losses[cause] += 1
            if self._losses[cause] >= MOST_LOSSES:
                raise PipelineError(
                    f"{MOST_LOSSES} workers have died {what}, the last because: {reason}. Look for "
                    f"the cause in Ray's logs of that node; often the memory does not suffice. "
                    f"Every finished chunk is stored."
                )
