"""Gives the chunks of one extraction to workers that come and go.

    driver   plan, cache.json, splits      tasks out, records back, adopts in the plan's order
    worker   pictures in, shard out        stages a chunk in the folder of the cache, as a rank does

A chunk is the unit of loss: that of a dead worker is given to another one, and its bytes are the
same. A worker has `AT_ONCE` chunks at a time, so nothing piles up. Features do not pass through the
driver, unless a worker does not see the folder of the cache.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.staging import explain_errors, staged_paths
from frozen_vqa.cache.format.manifest import Manifest, ShardKind
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ImageError, PipelineError
from frozen_vqa.pipeline.extract.batch_size import recorded_batch_size
from frozen_vqa.pipeline.extract.chunks import MissingWork, QuestionChunk
from frozen_vqa.pipeline.extract.engines.nodes import Nodes
from frozen_vqa.pipeline.extract.engines.task import (
    Done,
    OpenEncoders,
    Preparation,
    Settled,
    Task,
    carry,
    compute_as,
    without_others,
)
from frozen_vqa.pipeline.extract.engines.worker import AT_ONCE, Worker, versions
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder, cache_spec
from frozen_vqa.pipeline.extract.models.precision import LOOKED_AT, settle_precision
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.shard_queue import ShardQueue
from frozen_vqa.pipeline.extract.throughput import PhaseTimer
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.system.console import console, duration
from frozen_vqa.pipeline.system.disk import require_room
from frozen_vqa.pipeline.system.ranks import ALONE

T = TypeVar("T", Sequence[Id], QuestionChunk)

PATIENCE = 600.0
"""Seconds without any node that has room for a worker, after which the driver gives up."""

POLL, LOOK, SAY = 1.0, 5.0, 30.0
"""Seconds between two looks at finished chunks, at the nodes, and two lines that it waits."""

MOST_LOSSES = 8
"""Workers that one chunk, or the start of a worker, may cost; the cause is in the work then."""

CHECKED = 8
"""Unreadable pictures of a chunk that the driver tries to read too."""


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
class _Hand:
    """A worker, and the chunks that it has; it gets none before its node is known."""

    handle: Any
    node: str = ""
    tasks: dict[Any, Task] = field(default_factory=dict)  # by call


class Engine:
    """The driver's side: settles what all have to agree on, then hands chunks out.

    Args:
        open_both: Opens the encoders on a worker.
        workers: How many there should be; None for as many as the nodes have room for.
    """

    def __init__(
        self, cluster: Cluster, open_both: OpenEncoders, dtype: str, workers: int | None = None
    ) -> None:
        self._cluster, self._open, self._dtype, self._wanted = cluster, open_both, dtype, workers
        self._hands: list[_Hand] = []
        self._starting: dict[Any, _Hand] = {}  # by the call that prepares it
        self._settled: Settled | None = None
        self._preparation: Preparation
        self._losses: Counter[str] = Counter()
        self._looked = self._room_seen = self._said = time.monotonic()
        self._looked -= LOOK
        self.nodes = Nodes()

    def settle(
        self, source: Source, plan: Plan, images: ImageEncoder, text: TextEncoder, cache: Path
    ) -> Mapping[str, float]:
        """Choose the types of both encoders as `settle_precision` does, on a worker's device."""
        stored = None
        with suppress(CacheError):
            stored = load_manifest(cache).images
        if stored or self._cluster.device == "cpu":
            return settle_precision(source, plan, images, text, cache, ALONE)
        sample, spec = carry(source, plan.images[:LOOKED_AT]), cache_spec(images, text, self._dtype)
        self._settled = settled = self._ask_one("settle", sample, spec, cache)
        compute_as(images, text, settled.dtypes)
        return settled.origin

    def batch_size(self, manifest: Manifest) -> int:
        """Return the batch size that is recorded, or that a worker has measured."""
        if manifest.images or not self._settled:
            records = manifest.images[-1:]
            return recorded_batch_size(records[0], self._cluster.device) if records else 32
        return self._settled.batch_size

    def encode(
        self,
        encoder: FeatureEncoder,
        work: MissingWork,
        queue: ShardQueue,
        origin: Mapping[str, Json],
        batch_size: int,
        cache: Path,
    ) -> None:
        """Encode all chunks that are not staged yet, and let `queue` adopt them.

        Raises:
            CacheError: if a chunk cannot be stored.
            ModelError: if a worker cannot load or run a model.
            PipelineError: if no node is there for too long, or a chunk costs too many workers.
        """
        require_room(cache, work.feature_bytes(encoder.spec), advice="Free some, or try --limit.")
        self._preparation = Preparation(
            spec=encoder.spec,
            cache=cache.absolute(),
            witness=_leave_witness(cache).absolute(),
            batch_size=batch_size,
            images=bool(work.images),
            questions=bool(work.questions),
            longest=max(map(len, encoder.plan.questions.values()), default=0),
            versions=versions(),
        )
        for hand in self._hands:
            self._prepare(hand)
        self._run("images", work.images, encoder, queue, origin)
        self._run("questions", work.questions, encoder, queue, origin)

    def stop(self) -> None:
        """End all workers."""
        for hand in self._hands:
            self._cluster.stop(hand.handle)
        self._hands, self._starting = [], {}

    def _run(
        self,
        kind: ShardKind,
        chunks: Mapping[str, T],
        encoder: FeatureEncoder,
        queue: ShardQueue,
        origin: Mapping[str, Json],
    ) -> None:
        """Hand out the chunks of one kind, in their order, until all are stored."""
        with queue.share(kind, chunks) as (left, timer):
            todo = deque(left)

            def task_of(key: str) -> Task:
                chunk: Any = left[key]
                if isinstance(chunk, QuestionChunk):
                    return Task(kind, key, without_others(chunk), carry(encoder.source, ()), origin)
                return Task(kind, key, chunk, carry(encoder.source, chunk), origin)

            while todo or any(hand.tasks for hand in self._hands):
                self._look_at_nodes()
                while todo and (hand := self._idlest()):
                    task = task_of(todo.popleft())
                    hand.tasks[self._cluster.ask(hand.handle, "encode", task)] = task
                calls = [*self._starting, *(call for hand in self._hands for call in hand.tasks)]
                for call in self._cluster.wait(calls, POLL):
                    hand = self._whose(call)
                    if not hand:  # it was lost with another call of its
                        continue
                    try:
                        node, answer = self._cluster.answer(call)
                    except LostWorkerError as error:
                        todo.extendleft(reversed([task.key for task in hand.tasks.values()]))
                        self._lose(hand, str(error))
                        continue
                    if self._starting.pop(call, None):
                        hand.node = node
                        self._losses["start"] = 0
                        self.nodes.joined(node, device=answer)
                        continue
                    task = hand.tasks.pop(call)
                    self._store(task, answer, hand.node, encoder, queue)
                    self._advance(task, answer, hand.node, timer)

    def _store(
        self, task: Task, done: Done, node: str, encoder: FeatureEncoder, queue: ShardQueue
    ) -> None:
        if done.failures:
            _require_unreadable(task, done, node, encoder)
        failures = encoder.failures_of(done.failures)
        if done.staged:
            queue.take(task.kind, task.key, replace(done.staged, failures=failures))
        else:
            queue.put(task.kind, task.key, lambda: done.shard, failures=failures)

    def _advance(self, task: Task, done: Done, node: str, timer: PhaseTimer) -> None:
        """Count a finished chunk; shares of time are those of an average worker."""
        workers = sum(bool(hand.node) for hand in self._hands)
        for phase, seconds in done.seconds.items():
            timer.seconds[phase] += seconds / workers
        self.nodes.did(node, task.kind, len(task.chunk), done.seconds)
        timer.advance(len(task.chunk), note=self.nodes.note())

    def _whose(self, call: Any) -> _Hand | None:
        every = (hand for hand in self._hands if call in hand.tasks)
        return self._starting.get(call) or next(every, None)

    def _idlest(self) -> _Hand | None:
        """Return a worker that can take a chunk."""
        free = [hand for hand in self._hands if hand.node and len(hand.tasks) < AT_ONCE]
        return min(free, key=lambda hand: len(hand.tasks), default=None)

    def _look_at_nodes(self, *, grow: bool = True) -> None:
        """Start workers where there is room; give up if there was none for long."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked, room = now, self._cluster.room()
        if room or any(hand.node for hand in self._hands):
            self._room_seen = now
        for _ in range(len(self._hands), (self._wanted or room) if grow else 0):
            self._prepare(self._start())
        if not (waited := now - self._room_seen):
            return
        what = f"no node of the cluster has room for a worker ({self._cluster.device})"
        if waited > PATIENCE:
            raise PipelineError(
                f"{what}, and there was none for {duration(waited)}. Every finished chunk is "
                f"stored; when there are nodes again, run the same command to go on."
            )
        if now - self._said > SAY:
            self._said = now
            console.print(f"{what}; waiting for one, {duration(PATIENCE - waited)} at most")

    def _start(self) -> _Hand:
        hand = _Hand(self._cluster.start(Worker(self._open, self._cluster.device, self._dtype)))
        self._hands.append(hand)
        return hand

    def _prepare(self, hand: _Hand) -> None:
        self._starting[self._cluster.ask(hand.handle, "prepare", self._preparation)] = hand

    def _lose(self, hand: _Hand, reason: str) -> None:
        """Forget a worker; raise `PipelineError` if something kills one after the other."""
        self._hands.remove(hand)
        self._cluster.stop(hand.handle)
        self._starting = {call: one for call, one in self._starting.items() if one is not hand}
        self._looked -= LOOK  # another one may start at once
        if hand.node:
            self.nodes.lost(hand.node)
            console.print(
                f"a worker on {hand.node} is gone ({reason}); its {len(hand.tasks)} chunks are "
                f"given to others"
            )
        for cause in [task.key for task in hand.tasks.values()] if hand.node else ["start"]:
            self._losses[cause] += 1
            if self._losses[cause] >= MOST_LOSSES:
                what = "before its start ended" if cause == "start" else f"with chunk {cause}"
                raise PipelineError(
                    f"{MOST_LOSSES} workers have died {what}, the last because: {reason}. Look for "
                    f"the cause in Ray's logs of that node; often the memory does not suffice. "
                    f"Every finished chunk is stored."
                )

    def _ask_one(self, method: str, *given: object) -> Any:
        """Ask the first worker that there is, and another one if it dies."""
        while True:
            hand = self._hands[0] if self._hands else self._start()
            call = self._cluster.ask(hand.handle, method, *given)
            while not self._cluster.wait([call], POLL):
                self._look_at_nodes(grow=False)
            try:
                return self._cluster.answer(call)[1]
            except LostWorkerError as error:
                self._lose(hand, str(error))


def _leave_witness(cache: Path) -> Path:
    """Write a file by which a worker knows that it sees this folder; it goes as staged ones do."""
    _, path = staged_paths(cache, "images", os.urandom(8).hex())
    with explain_errors(path):
        write_atomically(path, b"{}", shared=True)
    return path


def _require_unreadable(task: Task, done: Done, node: str, encoder: FeatureEncoder) -> None:
    """Raise `PipelineError` if the driver can read a picture that a worker cannot.

    A node without the disk of the pictures would list all of them as unreadable.
    """
    ids = {str(image_id): image_id for image_id in cast(Sequence[Id], task.chunk)}
    for failure in done.failures[:CHECKED]:
        with suppress(ImageError):
            encoder.decoder.decode(ids[str(failure.id)])
            raise PipelineError(
                f"{failure.where}: {node} cannot read this picture ({failure.reason}), and the "
                f"driver can. All nodes need the pictures at the same paths; mount their disk "
                f"there, or take that node out, and run the same command to go on."
            )
