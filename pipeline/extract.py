"""Stage one: both frozen encoders run once, and everything they say is stored.

    source ── pictures ── decode (threads) ── ImageEncoder ─┐
       └───── questions ── distinct prefixes ── TextEncoder ┴─ shards laid aside ── CacheWriter
                                        (every rank its share)                       (the first)

Pictures are encoded once per image id and questions once per distinct text. What falls into which
shard and batch is a function of the data and of what is stored already, never of time, memory or
the number of processes, so that an interrupted extraction ends in the same bytes.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheError, CacheSpec, CacheWriter, Failure, Manifest, SplitTable, load_manifest
from cache.aside import lay_aside
from cache.reader import read_names, read_prefixes
from cache.shards import image_shard, question_shard
from cache.spec import Json
from pipeline.display import progress, size
from pipeline.encoders import ImageEncoder, TextEncoder
from pipeline.examples import Id, Source
from pipeline.extract_images import encode_images, image_chunks, require_same_pictures
from pipeline.extract_questions import QuestionChunk, encode_questions, question_chunks
from pipeline.plan import Plan
from pipeline.prefixes import PrefixTable
from pipeline.ranks import Ranks

ALONE = Ranks()
SHARD_BYTES = 128 << 20
"""Size of a full shard: seconds of a GPU's work are at stake in a kill, and three times this much
memory is needed to build one."""


@dataclass(frozen=True)
class Report:
    """What an extraction did.

    Attributes:
        images: "total", "encoded" in this run, "skipped" because they cannot be read.
        questions: "total", "distinct", "tokens" (all questions), "prefixes" (rows stored),
            "skipped" because they cannot be used.
        bytes: Of the whole cache.
        seconds: Wall time of this run.
        left_out: Questions that are not in their split, for they or their pictures cannot be used.
        failures: The pictures that cannot be read and the questions that cannot be used.
    """

    images: dict[str, int]
    questions: dict[str, int]
    bytes: int
    seconds: float
    left_out: int
    failures: Sequence[Failure]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        failures = [failure.to_json() for failure in self.failures]
        return vars(self) | {"seconds": round(self.seconds, 3), "failures": failures}


def cache_spec(images: ImageEncoder, text: TextEncoder, dtype: str) -> CacheSpec:
    """Return what a cache made by these encoders holds."""
    return CacheSpec(
        vision=images.settings,
        text=text.settings,
        grid=images.grid,
        vision_dim=images.dim,
        text_dim=text.dim,
        dtype=dtype,
    )


def expected_bytes(plan: Plan, spec: CacheSpec) -> int:
    """Return the bytes of features that a plan asks for, stored or not."""
    return len(plan.images) * spec.image_row_bytes + plan.prefixes * spec.prefix_row_bytes


def extract(
    source: Source,
    plan: Plan,
    *,
    cache: Path,
    images: ImageEncoder,
    text: TextEncoder,
    dtype: str = "float16",
    batch_size: int = 32,
    shard_bytes: int = SHARD_BYTES,
    origin: Mapping[str, Json] | None = None,
    ranks: Ranks = ALONE,
) -> Report:
    """Bring the cache to hold everything that `plan` names; what it holds already is kept.

    Args:
        source: Whose pictures are read.
        plan: From `make_plan` on the same source.
        cache: Folder of the cache, made or extended.
        images: Encodes pictures.
        text: Encodes questions.
        dtype: How numbers are stored: "float16" or "float32".
        batch_size: Pictures per batch; halved when a GPU's memory does not suffice.
        shard_bytes: Features per shard; a smaller shard is sooner safe.
        origin: What is to be recorded of the source, so that it can be found again.
        ranks: The processes that share the work; all have to call this with the same plan.

    Raises:
        CacheError: and its kinds, if the cache is another's, or the disk too small.
        ModelError: if a model cannot be loaded or run.
        PipelineError: if another rank has stopped.
    """
    started = time.monotonic()
    spec = cache_spec(images, text, dtype)
    with ExitStack() as stack:
        writer = stack.enter_context(CacheWriter(cache, spec)) if ranks.lead else None
        ranks.wait()  # until the lead has the lock, and leftovers are gone
        manifest = writer.manifest if writer else load_manifest(cache)
        work = _work(plan, cache, manifest, shard_bytes=shard_bytes)
        ranks.wait()  # until all have read it, for the lead is about to change it
        if writer:
            _require_room(cache, work, spec)
            require_same_pictures(
                source, plan, work.image_rows, images, cache=cache, manifest=manifest
            )
        _encode_images(source, work, images, spec, cache, writer, ranks, batch_size=batch_size)
        _encode_questions(plan, work, text, spec, cache, writer, ranks)
        ranks.wait()
        if writer:
            _adopt_all(writer, work)
            _write_splits(plan, writer, origin or {})
        ranks.wait()  # until there is a report to give
        manifest = writer.manifest if writer else load_manifest(cache)
    return _report(plan, manifest, work, seconds=time.monotonic() - started)


@dataclass(frozen=True)
class Work:
    """What the cache lacks, in pieces of one shard.

    Attributes:
        image_rows: Row by image id of what it has.
        image_chunks: Pictures to encode.
        question_chunks: Distinct questions to encode.
    """

    image_rows: Mapping[str, int]
    image_chunks: Sequence[Sequence[Id]]
    question_chunks: Sequence[QuestionChunk]


def _work(plan: Plan, cache: Path, manifest: Manifest, *, shard_bytes: int) -> Work:
    spec = manifest.spec
    names = read_names(cache, manifest, "images")
    rows = {name: row for row, name in enumerate(names)}
    questions = set(read_names(cache, manifest, "questions"))
    table = PrefixTable(*read_prefixes(cache, manifest))
    return Work(
        image_rows=rows,
        image_chunks=image_chunks(plan, rows, max(1, shard_bytes // spec.image_row_bytes)),
        question_chunks=question_chunks(
            plan, questions, table, max(1, shard_bytes // spec.prefix_row_bytes)
        ),
    )


def _require_room(cache: Path, work: Work, spec: CacheSpec) -> None:
    """Refuse before the first hour of work what the disk cannot hold."""
    need = sum(len(chunk) for chunk in work.image_chunks) * spec.image_row_bytes
    need += sum(len(chunk.tokens) for chunk in work.question_chunks) * spec.prefix_row_bytes
    free = shutil.disk_usage(cache).free
    if need > free:
        raise CacheError(
            f"{cache}: {size(need)} are needed for what is missing, but {size(free)} "
            f"are free on this disk. Free some, give another --cache, or try --limit."
        )


def _encode_images(
    source: Source,
    work: Work,
    encoder: ImageEncoder,
    spec: CacheSpec,
    cache: Path,
    writer: CacheWriter | None,
    ranks: Ranks,
    *,
    batch_size: int,
) -> None:
    """Encode this rank's share of the pictures and lay each chunk aside."""
    mine = ranks.mine(work.image_chunks)
    if not mine:
        return
    with progress("images", sum(len(chunk) for _, chunk in mine)) as advance:
        for number, chunk in mine:
            done = encode_images(
                source, chunk, encoder, spec, batch_size=batch_size, advance=advance
            )
            shard = image_shard(spec, done.new) if done.new.image_ids else None
            lay_aside(cache, number, shard, kind="images", failures=done.failures)
            if writer:
                writer.adopt("images")


def _encode_questions(
    plan: Plan,
    work: Work,
    encoder: TextEncoder,
    spec: CacheSpec,
    cache: Path,
    writer: CacheWriter | None,
    ranks: Ranks,
) -> None:
    """Encode this rank's share of the distinct questions and lay each chunk aside."""
    mine = ranks.mine(work.question_chunks)
    if not mine:
        return
    with progress("questions", sum(len(chunk.paths) for _, chunk in mine)) as advance:
        for number, chunk in mine:
            new = encode_questions(chunk, plan.questions, encoder, spec, advance=advance)
            lay_aside(cache, number, question_shard(spec, new), kind="questions")
            if writer:
                writer.adopt("questions")


def _adopt_all(writer: CacheWriter, work: Work) -> None:
    """Take what other ranks have laid aside since; by now all of it has to be there."""
    done = writer.adopt("images"), writer.adopt("questions")
    if done != (len(work.image_chunks), len(work.question_chunks)):
        raise CacheError(
            f"{writer.directory}: what another rank has written cannot be seen here, so all ranks "
            f"need one file system. What was stored is whole; run the command again to go on."
        )


def _write_splits(plan: Plan, writer: CacheWriter, origin: Mapping[str, Json]) -> None:
    """Write each split's table, and which of its questions could not be used."""
    rows: list[dict[str, int]] = []
    for kind in ("images", "questions"):
        names = read_names(writer.directory, writer.manifest, kind)
        rows.append({name: row for row, name in enumerate(names)})
    images, questions = rows
    for name, examples in plan.splits.items():
        kept = [example for example in examples if str(example.image_id) in images]
        table = SplitTable(
            question_ids=[example.question_id for example in kept],
            image_rows=np.array([images[str(e.image_id)] for e in kept], dtype=np.int64),
            question_rows=np.array([questions[e.question] for e in kept], dtype=np.int64),
            answers=[example.answers for example in kept],
            question_types=[example.question_type for example in kept],
            answer_types=[example.answer_type for example in kept],
        )
        unusable = plan.left_out.get(name, ())
        writer.set_split(
            name,
            table,
            left_out=len(examples) - len(kept) + len(unusable),
            failures=[Failure(q.question_id, q.where, q.reason, name) for q in unusable],
            tokens=sum(len(plan.questions[example.question]) for example in kept),
            origin=origin,
        )


def _report(plan: Plan, manifest: Manifest, work: Work, *, seconds: float) -> Report:
    wanted = {str(image_id) for image_id in plan.images}
    pictures = [f for f in manifest.failures if not f.split and f.id in wanted]
    questions = [f for f in manifest.failures if f.split in plan.splits]
    return Report(
        images={
            "total": len(plan.images),
            "encoded": manifest.image_rows - len(work.image_rows),
            "skipped": len(pictures),
        },
        questions=plan.counts() | {"skipped": len(questions)},
        bytes=manifest.bytes,
        seconds=seconds,
        left_out=sum(manifest.splits[name].left_out for name in plan.splits),
        failures=[*pictures, *questions],
    )
