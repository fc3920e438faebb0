"""Makes single shards of a cache again.

A shard has to keep its rows, because the splits point at them. The names of the rows are read from
the shard itself. If it is gone, they are found in the data set with the help of the splits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.cache import CacheDamagedError, CacheError, CacheWriter, SplitTable, load_manifest
from frozen_vqa.cache.disk.integrity import (
    open_shard,
    read_contents,
    read_prefixes,
    read_table,
)
from frozen_vqa.cache.errors import quoted
from frozen_vqa.cache.format.records.files import ShardKind, ShardRecord
from frozen_vqa.cache.format.shards import NAMES, Shard, image_shard, names_digest, question_shard
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.chunks import QuestionChunk
from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.plan import Plan, merge_same_pictures
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.extract.speed.batch_size import BatchSize, recorded_batch_size
from frozen_vqa.pipeline.extract.speed.throughput import PhaseTimer
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.system.console import console, progress

OTHER_BYTES = (
    "not the same bytes as before: another device or library rounds otherwise, and so did a "
    "conversion from float16"
)


def rebuild(
    encoder: FeatureEncoder, files: Sequence[str], *, cache: Path, batch_size: int | None = None
) -> list[dict[str, Any]]:
    """Make shards again, each alone and in place; no other file changes.

    Args:
        encoder: The splits of its plan find the names of a shard that is gone.
        files: Names below the cache, such as "images/00003.h5".
        batch_size: Pictures per batch; None for the size of the first time.

    Returns:
        For each file its name, its rows, and whether its bytes are those of the first time.

    Raises:
        CacheError: if a file is not a shard of this cache, or its rows cannot be found again.
        SourceError: if a picture of the shard can no longer be read.
    """
    done = []
    load_manifest(cache)  # a mistyped folder must not become a cache
    with CacheWriter(cache, encoder.spec) as writer:
        for file in sorted(set(files)):
            old = _find(writer, file)
            names = old.names(encoder)
            if old.kind == "images":
                shard = _encode_images(encoder, names, old.record, batch_size)
            else:
                shard = _encode_questions(encoder, names, old)
            same = writer.replace_shard(old.index, shard)
            done.append({"file": file, "rows": len(names), "same_bytes": same})
    return done


def show_rebuilt(rebuilt: Sequence[Mapping[str, Any]], cache: Path) -> dict[str, Any]:
    """Print what became of each shard, and return it for JSON."""
    for shard in rebuilt:
        same = "the same bytes as before" if shard["same_bytes"] else OTHER_BYTES
        console.show(f"{path_in(cache, shard['file'])}: {shard['rows']:,} rows made again, {same}")
    return {"cache": str(cache), "rebuilt": list(rebuilt)}


@dataclass(frozen=True)
class _OldShard:
    """A shard that is to be made again: number `index` of its kind."""

    writer: CacheWriter
    kind: ShardKind
    index: int
    record: ShardRecord

    def names(self, encoder: FeatureEncoder) -> list[str]:
        """Return its image ids or questions, from itself or from the data set."""
        with suppress(CacheDamagedError):
            return self._read_names(self.record)
        for names in self._guess_names(encoder):
            if names_digest(names) == self.record.names:
                return names
        splits = ", ".join(self.writer.manifest.splits) or "it has none yet"
        raise CacheError(
            f"{path_in(self.writer.directory, self.record.file)}: no other file tells which rows "
            f"it held, or the data set has changed since. Name the data set and all splits of this "
            f"cache ({splits}), or extract into another --cache."
        )

    def _read_names(self, record: ShardRecord) -> list[str]:
        return open_shard(self.writer.directory, self.kind, record).texts(NAMES[self.kind])

    def _guess_names(self, encoder: FeatureEncoder) -> Iterator[list[str]]:
        """Yield possible contents of a lost shard; the digest of its names decides among them."""
        shards, manifest = self.writer.manifest.shards(self.kind), self.writer.manifest
        first, rows = sum(before.rows for before in shards[: self.index]), self.record.rows
        found = self._names_by_row(encoder.plan)
        yield [found.get(row, "") for row in range(first, first + rows)]
        # No split has the questions whose picture failed. But shards follow the plan's order.
        elsewhere = {failure.id for failure in manifest.failures if not failure.split}
        sound = []
        for other in (*shards[: self.index], *shards[self.index + 1 :]):
            with suppress(CacheDamagedError):
                elsewhere |= set(self._read_names(other))
                sound.append(other)
        every: Iterable[str] = encoder.plan.questions
        if self.kind == "images":
            known = read_contents(self.writer.directory, sound)
            plan = merge_same_pictures(encoder.plan, encoder.source, known)
            every = map(plan.name, plan.images)
        left = [name for name in every if name not in elsewhere]
        for start in range(len(left) - rows + 1):
            yield left[start : start + rows]

    def _names_by_row(self, plan: Plan) -> dict[int, str]:
        """Return the image id or question of every row that a split points at."""
        found: dict[int, str] = {}
        splits = self.writer.manifest.splits
        for name in [name for name in plan.splits if name in splits]:
            with suppress(CacheDamagedError):  # the other splits may suffice
                table = read_table(self.writer.directory, splits[name])
                examples = {example.question_id: example for example in plan.splits[name]}
                for row, question_id in enumerate(table.question_ids):
                    if question_id in examples:
                        for at, said in self._rows_of(table, row, examples[question_id]):
                            found.setdefault(at, said)  # a picture is stored under its first id
        return found

    def _rows_of(
        self, table: SplitTable, row: int, example: VqaExample
    ) -> Iterator[tuple[int, str]]:
        """Return the image ids, or the texts, of the rows that a question of a split points at."""
        first, more, names = table.image_rows, table.more_images, example.images
        if self.kind == "questions":
            first, more, names = table.question_rows, table.choice_rows, example.texts
        rows = (int(first[row]), *(more[row] if more else ()))
        return zip(rows, map(str, names), strict=False)  # the data may have changed


def _find(writer: CacheWriter, file: str) -> _OldShard:
    try:
        kind, index = writer.manifest.find(file)
    except KeyError:
        raise CacheError(
            f"{writer.directory}: --rebuild {file!r} is not a shard of this cache; give a name "
            f"such as images/00000.h5. `frozen-vqa verify-cache {quoted(writer.directory)}` names "
            f"the damaged ones."
        ) from None
    return _OldShard(writer, kind, index, writer.manifest.shards(kind)[index])


def _encode_images(
    encoder: FeatureEncoder, names: Sequence[str], record: ShardRecord, batch_size: int | None
) -> Shard:
    ids = {str(image_id): image_id for image_id in encoder.plan.image_ids}
    if unknown := [name for name in names if name not in ids]:
        raise SourceError(
            f"{len(unknown):,} pictures of this shard are not in the given data set and splits, "
            f"such as {unknown[0]!r}; name the data set and splits that the cache was made from."
        )
    size = BatchSize(batch_size or recorded_batch_size(record, encoder.images.device))
    chunk = [ids[name] for name in names]
    with (
        progress("images", len(names)) as advance,
        closing(encoder.encode_images([chunk], size, PhaseTimer(advance))) as encoding,
    ):
        done = next(encoding)
    if done.failures:
        failure = done.failures[0]
        raise SourceError(
            f"{failure.where}: {failure.reason}; {len(done.failures):,} pictures of this shard can "
            f"no longer be read, so it cannot be made again. Bring them back."
        )
    return image_shard(encoder.spec, done.new)


def _encode_questions(encoder: FeatureEncoder, names: Sequence[str], old: _OldShard) -> Shard:
    tokens = dict(zip(names, encoder.text.tokens(names), strict=True))
    known = read_prefixes(old.writer.directory, old.writer.manifest, old.index)
    table = PrefixTable(*known, shared=encoder.text.causal)
    first = len(table)
    paths = {text: table.add(tokens[text]) for text in names}
    chunk = QuestionChunk(tokens, paths, first, *table.since(first))
    with progress("questions", len(names)) as advance:
        return question_shard(encoder.spec, encoder.encode_questions(chunk, PhaseTimer(advance)))
