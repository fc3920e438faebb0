"""What a cache lacks, in pieces of one shard, and where finished pieces go.

A piece, or chunk, is named by a digest of all that fixes what it holds. So every rank finds the
same chunks, takes its share of them, and lays each aside when it is done; the first rank takes
them into the cache, in their order. What a dead extraction has laid aside is not made again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from frozen_vqa.cache import CacheError, CacheWriter, Failure, Manifest
from frozen_vqa.cache.disk.integrity import read_names, read_prefixes
from frozen_vqa.cache.disk.staging import chunk_key, read_staged, stage_shard
from frozen_vqa.cache.format.manifest import ShardKind
from frozen_vqa.cache.format.shards import Shard
from frozen_vqa.cache.format.spec import Json
from frozen_vqa.pipeline.extract.images import image_chunks
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.extract.questions import QuestionChunk, question_chunks
from frozen_vqa.pipeline.extract.throughput import Pace
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.system.console import progress
from frozen_vqa.pipeline.system.ranks import Ranks

T = TypeVar("T", Sequence[Id], QuestionChunk)


@dataclass(frozen=True)
class Work:
    """What the cache lacks.

    Attributes:
        image_rows: Row by image id of what it has.
        images: Pictures to encode, by chunk.
        questions: Distinct questions to encode, by chunk.
    """

    image_rows: Mapping[str, int]
    images: Mapping[str, Sequence[Id]]
    questions: Mapping[str, QuestionChunk]


def find_work(
    plan: Plan, cache: Path, manifest: Manifest, *, shard_bytes: int, origin: Mapping[str, Json]
) -> Work:
    """Return what a cache lacks of a plan.

    Args:
        plan: What it shall hold.
        cache: Folder of the cache.
        manifest: Of the cache.
        shard_bytes: Features per shard.
        origin: What the records of new shards will say of where they come from.
    """
    spec = manifest.spec
    stored = read_names(cache, manifest, "images")
    images = image_chunks(plan, set(stored), max(1, shard_bytes // spec.image_row_bytes))
    questions = question_chunks(
        plan,
        set(read_names(cache, manifest, "questions")),
        PrefixTable(*read_prefixes(cache, manifest)),
        max(1, shard_bytes // spec.prefix_row_bytes),
    )
    return Work(
        image_rows={name: row for row, name in enumerate(stored)},
        images={chunk_key(spec, origin, list(chunk)): chunk for chunk in images},
        questions={chunk_key(spec, origin, chunk.to_json()): chunk for chunk in questions},
    )


class Shelf:
    """Where a rank lays its finished chunks; the first rank takes them from there.

    One thread builds a chunk's shard, lays it aside and takes it into the cache, while the encoder
    is at the next one. It has one chunk at most, so that memory stays bounded; the writer is used
    by that thread, or by the main one when that thread has nothing to do. Whatever ends the block,
    the chunk that the thread has is stored first, and its error raised.

    Args:
        cache: Folder of the cache.
        work: All that is to be done, by all ranks.
        ranks: Who does it.
        writer: Of the cache, on the first rank.

    Attributes:
        paces: Where the time went, by kind.
    """

    def __init__(self, cache: Path, work: Work, ranks: Ranks, writer: CacheWriter | None) -> None:
        self._cache, self._ranks, self._writer = cache, ranks, writer
        self._waiting: dict[ShardKind, list[str]] = {
            "images": list(work.images),
            "questions": list(work.questions),
        }
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shelf")
        self._pending: Future[None] | None = None
        self.paces: dict[ShardKind, Pace] = {"images": Pace(), "questions": Pace()}

    def __enter__(self) -> "Shelf":
        return self

    def __exit__(self, *_: object) -> None:
        stopped: BaseException | None = None
        while True:
            try:
                self._thread.shutdown()
                break
            except (KeyboardInterrupt, SystemExit) as signal:
                stopped = signal  # the lock cannot be given back while the thread writes
        self._settle()
        if stopped:
            raise stopped

    @contextmanager
    def share(
        self, kind: ShardKind, chunks: Mapping[str, T]
    ) -> Iterator[tuple[list[tuple[str, T]], Pace]]:
        """Yield this rank's chunks that are not laid aside yet, and what to tell of progress.

        When the block ends well, all of them are stored.
        """
        mine = [item for _, item in self._ranks.mine(list(chunks.items()))]
        left = [(key, c) for key, c in mine if read_staged(self._cache, kind, key) is None]
        self._adopt(kind)
        if not left:
            yield [], self.paces[kind]
            return
        with progress(kind, sum(len(chunk) for _, chunk in left)) as advance:

            def told(count: int, *, note: str) -> None:
                if self._pending and self._pending.done():  # not only after hours, if it failed
                    self._settle()
                advance(count, note=note)

            pace = self.paces[kind] = Pace(told)
            try:
                yield left, pace
                with pace.on("waiting"):
                    self._settle()
            finally:
                pace.end()

    def lay(
        self,
        kind: ShardKind,
        key: str,
        build: Callable[[], Shard | None],
        *,
        failures: Sequence[Failure] = (),
    ) -> None:
        """Have a finished chunk stored, once the one before it is.

        Args:
            kind: Of its rows.
            key: Of the chunk.
            build: Makes its shard; None if there is nothing to store.
            failures: Pictures of it that cannot be read.

        Raises:
            CacheError: if the chunk before could not be stored.
        """
        pace, builds = self.paces[kind], [build]
        del build

        def store() -> None:
            with pace.on("writing"):
                shard = builds.pop()()  # and forget the features: the shard holds them
                stage_shard(self._cache, key, shard, kind=kind, failures=failures)
                self._adopt(kind)

        with pace.on("waiting"):
            self._settle()
        self._pending = self._thread.submit(store)

    def finish(self) -> None:
        """Take what other ranks have laid aside since; by now all of it has to be there."""
        for kind in self._waiting:
            self._adopt(kind)
        if self._writer and any(self._waiting.values()):
            raise CacheError(
                f"{self._cache}: what another rank has written cannot be seen here, so all ranks "
                f"need one file system. What was stored is whole; run the command again to go on."
            )

    def _settle(self) -> None:
        """Wait until the thread has nothing to do, and raise its error."""
        if self._pending:
            wait([self._pending])
            pending, self._pending = self._pending, None
            pending.result()

    def _adopt(self, kind: ShardKind) -> None:
        if self._writer:
            waiting = self._waiting[kind]
            del waiting[: self._writer.adopt(kind, waiting)]
