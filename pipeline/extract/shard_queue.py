"""Takes finished chunks from every rank; the first rank moves them into the cache.

Every rank encodes its share of the chunks and stages each when it is done. The first rank adopts
them in their order, so the cache is that of a single process. A chunk that a dead extraction has
staged is not made again.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import TypeVar

from frozen_vqa.cache import CacheError, CacheWriter, Failure
from frozen_vqa.cache.disk.staging import StagedShard, read_staged, stage_shard
from frozen_vqa.cache.format.records.files import KINDS, ShardKind
from frozen_vqa.cache.format.shards import Shard
from frozen_vqa.pipeline.extract.chunks import MissingWork, QuestionChunk
from frozen_vqa.pipeline.extract.throughput import Left, PhaseTimer
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.system.console import progress
from frozen_vqa.pipeline.system.ranks import Ranks

T = TypeVar("T", Sequence[Id], QuestionChunk)
Build = Callable[[], Shard | None]
"""Makes the shard of a chunk; None if there is nothing to store."""

WRITERS = 2
"""Threads that store chunks: one digests and copies while the other waits for the disk."""


@dataclass(frozen=True)
class Some(Mapping[str, T]):
    """Those chunks that have these names; a chunk is read when it is asked for."""

    names: Mapping[str, None]
    every: Mapping[str, T]

    def __getitem__(self, key: str) -> T:
        return self.every[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class ShardQueue:
    """Stores finished chunks in a few threads while the encoder works on the next one.

    Each thread holds one chunk at most, so memory stays bounded. One thread at a time uses the
    writer, and the main one only while the others have nothing to do. At the end of the block,
    even after an error, the threads first store their chunks, and the first error is raised.

    `work` has the chunks of all ranks; only the first rank has a writer.
    """

    def __init__(
        self, cache: Path, work: MissingWork, ranks: Ranks, writer: CacheWriter | None
    ) -> None:
        self._cache, self._ranks, self._writer = cache, ranks, writer
        every: dict[ShardKind, Mapping[str, Sized]] = {
            "images": work.images,
            "questions": work.questions,
        }
        self._unadopted = {kind: list(chunks) for kind, chunks in every.items()}
        self._rows = {kind: array("q", map(len, chunks.values())) for kind, chunks in every.items()}
        self._coming: set[str] = set()  # of this process, whose files may be there before they last
        self._staged: dict[str, StagedShard] = {}
        self._error: BaseException | None = None
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="shards")
        self._pending: deque[Future[None]] = deque()
        self._adopting = Lock()
        self.timers = {kind: PhaseTimer() for kind in KINDS}

    def __enter__(self) -> "ShardQueue":
        return self

    def __exit__(self, *_: object) -> None:
        stopped: BaseException | None = None
        while True:
            try:
                self._threads.shutdown()
                break
            except (KeyboardInterrupt, SystemExit) as signal:
                stopped = signal  # the lock cannot be released while a thread writes
        self._wait()
        if stopped:
            raise stopped

    @contextmanager
    def share(
        self, kind: ShardKind, chunks: Mapping[str, T]
    ) -> Iterator[tuple[Mapping[str, T], PhaseTimer]]:
        """Yield those of this rank's chunks that are not staged yet, and a timer of progress.

        When the block ends without an error, all of them are stored.
        """
        mine = [key for _, key in self._ranks.mine(list(chunks))]
        left = Some({key: None for key in mine if not read_staged(self._cache, kind, key)}, chunks)
        self._adopt(kind)
        self._coming |= left.keys()
        if not left:
            yield left, self.timers[kind]
            return
        with progress(kind, sum(len(chunk) for chunk in left.values())) as advance:

            def advance_or_raise(count: int, *, note: str) -> None:
                while self._pending and self._pending[0].done():  # no error is kept for hours
                    self._wait(len(self._pending) - 1)
                advance(count, note=note)

            timer = self.timers[kind] = PhaseTimer(advance_or_raise)
            try:
                yield left, timer
                with timer.measure("waiting"):
                    self._wait()
            finally:
                timer.stop()

    def put(
        self, kind: ShardKind, key: str, build: Build, *, failures: Sequence[Failure] = ()
    ) -> None:
        """Store a finished chunk once a thread has nothing to do.

        Raises:
            CacheError: if a chunk before could not be stored.
        """
        with self.timers[kind].measure("waiting"):
            self._wait(WRITERS - 1)
        self._pending.append(self._threads.submit(self._store, kind, key, build, failures))

    def take(self, kind: ShardKind, key: str, staged: StagedShard) -> None:
        """Adopt a chunk that a worker on another machine has staged, once those before it are."""
        self._staged[key] = staged
        self._adopt(kind)

    def _store(self, kind: ShardKind, key: str, build: Build, failures: Sequence[Failure]) -> None:
        with self.timers[kind].measure("writing"):
            staged = stage_shard(self._cache, key, build(), kind=kind, failures=failures)
            if self._writer:
                self._staged[key] = staged
            self._adopt(kind)

    def left(self) -> Left:
        """Return what the first rank has yet to adopt; another thread may ask."""
        chunks = {kind: len(keys) for kind, keys in self._unadopted.items()}
        return Left(
            # Chunks are adopted in their order, so the last ones are left.
            rows={kind: sum(rows[len(rows) - chunks[kind] :]) for kind, rows in self._rows.items()},
            chunks=chunks,
            waiting=len(self._staged),
        )

    def adopt_rest(self) -> None:
        """Adopt the chunks that other ranks have staged since.

        Raises:
            CacheError: if one is missing; every rank has to be done by now.
        """
        for kind in self._unadopted:
            self._adopt(kind)
        if self._writer and any(self._unadopted.values()):
            raise CacheError(
                f"{self._cache}: the files that another rank has written cannot be seen here, and "
                f"all ranks need one file system. Everything stored is whole; put the cache on a "
                f"shared disk and run the command again to go on."
            )

    def _wait(self, left: int = 0) -> None:
        """Wait until at most so many chunks are on their way; raise the first error, once."""
        while len(self._pending) > left:
            try:
                self._pending.popleft().result()
            except BaseException:
                wait(self._pending)
                self._pending.clear()
                raise

    def _adopt(self, kind: ShardKind) -> None:
        if not self._writer:
            return
        with self._adopting:
            if self._error:  # chunks that it left half adopted are for the next extraction
                raise self._error
            keys = self._unadopted[kind]
            whole = list(
                takewhile(lambda key: key not in self._coming or key in self._staged, keys)
            )
            try:
                done = whole[: self._writer.adopt(kind, whole, self._staged)]
            except BaseException as error:
                self._error = error
                raise
            del keys[: len(done)]
            for key in done:
                self._staged.pop(key, None)
