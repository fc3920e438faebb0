"""Makes single shards of a cache again.

A shard's rows have to stay what they were, for the splits point at them. Their names are read from
the shard itself, or, where it is gone, found in the data set with the help of the splits.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from frozen_vqa.cache import (
    CacheDamagedError,
    CacheError,
    CacheSpec,
    CacheWriter,
    Manifest,
    load_manifest,
)
from frozen_vqa.cache.disk.integrity import open_shard, read_prefixes, read_table
from frozen_vqa.cache.errors import quoted
from frozen_vqa.cache.format.manifest import ShardKind
from frozen_vqa.cache.format.shards import NAMES, Shard, image_shard, names_digest, question_shard
from frozen_vqa.pipeline.encoders.encoders import ImageEncoder, TextEncoder
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.batch_size import (
    BatchSize,
    default_batch_size,
    recorded_batch_size,
)
from frozen_vqa.pipeline.extract.images import encode_images
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.extract.questions import QuestionChunk, encode_questions
from frozen_vqa.pipeline.extract.throughput import Pace
from frozen_vqa.pipeline.sources.example import Source
from frozen_vqa.pipeline.system.console import progress


def rebuild(
    source: Source,
    plan: Plan,
    files: Sequence[str],
    *,
    cache: Path,
    spec: CacheSpec,
    images: ImageEncoder,
    text: TextEncoder,
    batch_size: int | None = None,
) -> list[dict[str, Any]]:
    """Make shards again, each alone and in place; nothing else is touched.

    Args:
        source: Whose pictures are read.
        plan: From `make_plan` on the same source; its splits find the names of a lost shard.
        files: Names below the cache, such as "images/00003.h5".
        cache: Folder of the cache.
        spec: What the cache holds.
        images: Encodes pictures.
        text: Encodes questions.
        batch_size: Pictures per batch; None for that of the first time.

    Returns:
        For each file its name, rows, and whether its bytes are those of the first time.

    Raises:
        CacheError: if a file is no shard of this cache, or its rows cannot be found again.
        SourceError: if a picture of the shard cannot be read any more.
    """
    done = []
    load_manifest(cache)  # a mistyped folder is not to become a cache
    with CacheWriter(cache, spec) as writer:
        for file in sorted(set(files)):
            kind, index = _place(writer.manifest, cache, file)
            names = _names(writer, plan, kind, index)
            if kind == "images":
                before = writer.manifest.images[index].origin.get("batch_size")
                pictures = batch_size or recorded_batch_size(before)
                pictures = pictures or default_batch_size(images.device)
                shard = _encode_pictures(source, plan, names, images, spec, batch_size=pictures)
            else:
                shard = _encode_texts(plan, names, writer, index, text, spec)
            same = writer.replace_shard(index, shard)
            done.append({"file": file, "rows": len(names), "same_bytes": same})
    return done


def _place(manifest: Manifest, cache: Path, file: str) -> tuple[ShardKind, int]:
    kinds: tuple[ShardKind, ...] = ("images", "questions")
    for kind in kinds:
        for index, record in enumerate(manifest.shards(kind)):
            if record.file == file:
                return kind, index
    raise CacheError(
        f"{cache}: --rebuild {file!r} is no shard of this cache; needed is a name such as "
        f"images/00000.h5. `frozen-vqa verify-cache {quoted(cache)}` names the damaged "
        f"ones."
    )


def _names(writer: CacheWriter, plan: Plan, kind: ShardKind, index: int) -> list[str]:
    """Return image ids or questions of a shard, from itself or from the data set."""
    record = writer.manifest.shards(kind)[index]
    try:
        return open_shard(writer.directory, kind, record).texts(NAMES[kind])
    except CacheDamagedError:
        pass
    for names in _guesses(writer, plan, kind, index):
        if names_digest(names) == record.names:
            return names
    splits = ", ".join(writer.manifest.splits) or "it has none yet"
    raise CacheError(
        f"{writer.directory / record.file}: which rows it held is written nowhere else, or the "
        f"data set has changed since. Name the data set and all splits of this cache ({splits}), "
        f"or extract into another --cache."
    )


def _guesses(writer: CacheWriter, plan: Plan, kind: ShardKind, index: int) -> Iterator[list[str]]:
    """Yield what a lost shard can have held; the digest of its names tells which it was."""
    shards = writer.manifest.shards(kind)
    first, rows = sum(before.rows for before in shards[:index]), shards[index].rows
    found = _names_by_row(writer, plan, kind)
    yield [found.get(row, "") for row in range(first, first + rows)]
    # Questions whose picture failed are in no split. But shards are filled in the plan's order.
    elsewhere = {failure.id for failure in writer.manifest.failures if not failure.split}
    for other in (*shards[:index], *shards[index + 1 :]):
        with suppress(CacheDamagedError):
            elsewhere |= set(open_shard(writer.directory, kind, other).texts(NAMES[kind]))
    every = map(str, plan.images) if kind == "images" else plan.questions
    left = [name for name in every if name not in elsewhere]
    for start in range(len(left) - rows + 1):
        yield left[start : start + rows]


def _names_by_row(writer: CacheWriter, plan: Plan, kind: ShardKind) -> dict[int, str]:
    """Return the image id or question of every row that a split points at."""
    found: dict[int, str] = {}
    for name, examples in plan.splits.items():
        if name not in writer.manifest.splits:
            continue
        try:
            table = read_table(writer.directory, writer.manifest.splits[name])
        except CacheDamagedError:  # damaged as well; what is left may be enough
            continue
        by_id = {example.question_id: example for example in examples}
        rows = table.image_rows if kind == "images" else table.question_rows
        for question_id, row in zip(table.question_ids, rows.tolist(), strict=True):
            if example := by_id.get(question_id):
                found[row] = str(example.image_id) if kind == "images" else example.question
    return found


def _encode_pictures(
    source: Source,
    plan: Plan,
    names: Sequence[str],
    encoder: ImageEncoder,
    spec: CacheSpec,
    *,
    batch_size: int,
) -> Shard:
    ids = {str(image_id): image_id for image_id in plan.images}
    if unknown := [name for name in names if name not in ids]:
        raise SourceError(
            f"{len(unknown):,} pictures of this shard are not in the data set and splits that were "
            f"asked for, such as {unknown[0]!r}; name those that the cache was made from."
        )
    with progress("images", len(names)) as advance:
        encoding = encode_images(
            source,
            [[ids[name] for name in names]],
            encoder,
            spec,
            batch_size=BatchSize(batch_size),
            pace=Pace(advance),
        )
        with closing(encoding):
            done = next(encoding)
    if done.failures:
        failure = done.failures[0]
        raise SourceError(
            f"{failure.where}: {failure.reason}; {len(done.failures):,} pictures of this shard can "
            f"be read no more, so it cannot be made again. Bring them back."
        )
    return image_shard(spec, done.new)


def _encode_texts(
    plan: Plan,
    names: Sequence[str],
    writer: CacheWriter,
    index: int,
    encoder: TextEncoder,
    spec: CacheSpec,
) -> Shard:
    tokens = dict(zip(names, encoder.tokens(names), strict=True)) | dict(plan.questions)
    table = PrefixTable(*read_prefixes(writer.directory, writer.manifest, index))
    first = len(table)
    paths = {text: table.add(tokens[text]) for text in names}
    chunk = QuestionChunk(paths, first, *table.since(first))
    with progress("questions", len(names)) as advance:
        new = encode_questions(chunk, tokens, encoder, spec, pace=Pace(advance))
    return question_shard(spec, new)
