"""What a cache lacks, in pieces of one shard, and where finished pieces go.

A piece, or chunk, is named by a digest of all that fixes what it holds. So every rank finds the
same chunks, takes its share of them, and lays each aside when it is done; the first rank takes
them into the cache, in their order. What a dead extraction has laid aside is not made again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cache import CacheError, CacheWriter, Failure, Manifest
from cache.aside import chunk_key, laid_aside, lay_aside
from cache.manifest import ShardKind
from cache.reader import read_names, read_prefixes
from cache.shards import Shard
from cache.spec import Json
from pipeline.display import Advance, progress
from pipeline.examples import Id
from pipeline.extract_images import image_chunks
from pipeline.extract_questions import QuestionChunk, question_chunks
from pipeline.plan import Plan
from pipeline.prefixes import PrefixTable
from pipeline.ranks import Ranks

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

    Args:
        cache: Folder of the cache.
        work: All that is to be done, by all ranks.
        ranks: Who does it.
        writer: Of the cache, on the first rank.
    """

    def __init__(self, cache: Path, work: Work, ranks: Ranks, writer: CacheWriter | None) -> None:
        self._cache, self._ranks, self._writer = cache, ranks, writer
        self._waiting: dict[ShardKind, list[str]] = {
            "images": list(work.images),
            "questions": list(work.questions),
        }

    @contextmanager
    def share(
        self, kind: ShardKind, chunks: Mapping[str, T]
    ) -> Iterator[tuple[list[tuple[str, T]], Advance]]:
        """Yield this rank's chunks that are not laid aside yet, and what to tell of progress."""
        mine = [item for _, item in self._ranks.mine(list(chunks.items()))]
        left = [(key, c) for key, c in mine if laid_aside(self._cache, kind, key) is None]
        self._adopt(kind)
        if not left:
            yield [], lambda *_, **__: None
            return
        with progress(kind, sum(len(chunk) for _, chunk in left)) as advance:
            yield left, advance

    def lay(
        self, kind: ShardKind, key: str, shard: Shard | None, *, failures: Sequence[Failure] = ()
    ) -> None:
        """Store a finished chunk."""
        lay_aside(self._cache, key, shard, kind=kind, failures=failures)
        self._adopt(kind)

    def finish(self) -> None:
        """Take what other ranks have laid aside since; by now all of it has to be there."""
        for kind in self._waiting:
            self._adopt(kind)
        if self._writer and any(self._waiting.values()):
            raise CacheError(
                f"{self._cache}: what another rank has written cannot be seen here, so all ranks "
                f"need one file system. What was stored is whole; run the command again to go on."
            )

    def _adopt(self, kind: ShardKind) -> None:
        if self._writer:
            waiting = self._waiting[kind]
            del waiting[: self._writer.adopt(kind, waiting)]
