"""Gives the chunks of one extraction to workers that come and go.

    driver   plan, cache.json, splits      tasks out, records back, adopts in the plan's order
    worker   pictures in, shard out        stages a chunk in the folder of the cache, as a rank does

A chunk is the unit of loss: that of a dead worker is given to another one, and its bytes are the
same. A worker has `AT_ONCE` chunks at a time, so nothing piles up. Features do not pass through the
driver, unless a worker does not see the folder of the cache.
"""

import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.staging import explain_errors, staged_paths
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.records.files import ShardKind
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ImageError, PipelineError
from frozen_vqa.pipeline.extract.chunks import MissingWork, QuestionChunk
from frozen_vqa.pipeline.extract.engines.crew import Cluster, Crew, LostWorkerError
from frozen_vqa.pipeline.extract.engines.nodes import Nodes
from frozen_vqa.pipeline.extract.engines.task import (
    Done,
    OpenEncoders,
    Preparation,
    Settled,
    Task,
    carry,
    compute_as,
    types_of,
    without_others,
)
from frozen_vqa.pipeline.extract.engines.worker import Worker, versions
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.models.precision import LOOKED_AT, settle_precision
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.shard_queue import ShardQueue
from frozen_vqa.pipeline.extract.speed.batch_size import CPU_BATCH, recorded_batch_size
from frozen_vqa.pipeline.extract.speed.throughput import PhaseTimer
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.system.disk import require_room
from frozen_vqa.pipeline.system.ranks import ALONE

T = TypeVar("T", Sequence[Id], QuestionChunk)

POLL = 1.0
"""Seconds between two looks at the chunks that are done."""

CHECKED = 8
"""Unreadable pictures of a chunk that the driver tries to read too."""


class Engine:
    """The driver's side: settles what all have to agree on, then hands chunks out.

    Args:
        open_both: Opens the encoders on a worker.
        workers: How many there should be; None for as many as the nodes have room for.
    """

    def __init__(
        self, cluster: Cluster, open_both: OpenEncoders, workers: int | None = None
    ) -> None:
        self._cluster = cluster
        self._crew = Crew(cluster, lambda: Worker(open_both, cluster.device), workers)
        self._settled: Settled | None = None

    @property
    def nodes(self) -> Nodes:
        """What each node has done."""
        return self._crew.nodes

    def settle(
        self, source: Source, plan: Plan, images: ImageEncoder, text: TextEncoder, cache: Path
    ) -> Mapping[str, Json]:
        """Choose the types of both encoders as `settle_precision` does, on a worker's device."""
        stored = None
        with suppress(CacheError):
            stored = load_manifest(cache).images
        if stored or self._cluster.device == "cpu":
            return settle_precision(source, plan, images, text, cache, ALONE)
        sample = carry(source, plan.images[:LOOKED_AT])
        self._settled = settled = self._ask_one("settle", sample, cache)
        compute_as(images, text, settled.dtypes)
        return settled.origin

    def batch_size(self, manifest: Manifest) -> int:
        """Return the batch size that is recorded, or that a worker has measured."""
        if manifest.images:
            return recorded_batch_size(manifest.images[-1], self._cluster.device)
        return self._settled.batch_size if self._settled else CPU_BATCH

    def encode(
        self,
        encoder: FeatureEncoder,
        work: MissingWork,
        queue: ShardQueue,
        origin: Mapping[str, Any],
        cache: Path,
    ) -> None:
        """Encode all chunks that are not staged yet, and let `queue` adopt them.

        `origin` has the "batch_size".

        Raises:
            CacheError: if a chunk cannot be stored.
            ModelError: if a worker cannot load or run a model.
            PipelineError: if no node is there for too long, or a chunk costs too many workers.
        """
        require_room(cache, work.feature_bytes(encoder.spec), advice="Free some, or try --limit.")
        preparation = Preparation(
            spec=encoder.spec,
            pool=encoder.pool,
            cache=cache.absolute(),
            witness=_leave_witness(cache).absolute(),
            batch_size=origin["batch_size"],
            images=bool(work.images),
            questions=bool(work.questions),
            longest=max(map(len, encoder.plan.questions.values()), default=0),
            dtypes=types_of(encoder.images, encoder.text),
            versions=versions(),
        )
        self._crew.prepare(preparation)
        self._run("images", work.images, encoder, queue, origin)
        self._run("questions", work.questions, encoder, queue, origin)

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

            crew = self._crew
            while todo or any(hand.tasks for hand in crew.hands):
                crew.look()
                while todo and (hand := crew.idlest()):
                    task = task_of(todo.popleft())
                    hand.tasks[self._cluster.ask(hand.handle, "encode", task)] = task
                for call in self._cluster.wait(list(crew.calls()), POLL):
                    if not (hand := crew.whose(call)):  # lost with another call
                        continue
                    try:
                        node, answer = self._cluster.answer(call)
                    except LostWorkerError as error:
                        todo.extendleft(reversed([task.key for task in hand.tasks.values()]))
                        crew.lose(hand, str(error))
                        continue
                    if not crew.is_start(call, node, answer):
                        task = hand.tasks.pop(call)
                        self._store(task, answer, node, encoder, queue)
                        self._advance(task, answer, node, timer)

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
        workers = sum(bool(hand.node) for hand in self._crew.hands)
        for phase, seconds in done.seconds.items():
            timer.seconds[phase] += seconds / workers
        stored = len(task.chunk) - len(done.failures)
        self.nodes.did(node, task.kind, stored, done.seconds)
        timer.advance(len(task.chunk), note=self.nodes.note())

    def _ask_one(self, method: str, *given: object) -> Any:
        """Ask the first worker that there is, and another one if it dies."""
        while True:
            hand = self._crew.hands[0] if self._crew.hands else self._crew.start()
            call = self._cluster.ask(hand.handle, method, *given)
            while not self._cluster.wait([call], POLL):
                self._crew.look()
            try:
                return self._cluster.answer(call)[1]
            except LostWorkerError as error:
                self._crew.lose(hand, str(error))


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
