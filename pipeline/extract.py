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
from cache.reader import read_names
from cache.shards import image_shard, question_shard
from cache.spec import Json
from cache.writer import require_split_name
from pipeline.display import size
from pipeline.encoders import ImageEncoder, TextEncoder
from pipeline.examples import Source
from pipeline.extract_images import encode_images, require_same_pictures
from pipeline.extract_questions import encode_questions
from pipeline.plan import Plan
from pipeline.ranks import Ranks
from pipeline.work import Shelf, Work, find_work

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
        dtype: How numbers are stored: "float16", "float32" or "int8" (`CacheSpec`).
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
    spec, origin = cache_spec(images, text, dtype), dict(origin or {})
    for name in plan.splits:
        require_split_name(name)
    with ExitStack() as stack:
        writer = stack.enter_context(CacheWriter(cache, spec)) if ranks.lead else None
        ranks.wait()  # until the lead has the lock, and leftovers are gone
        manifest = writer.manifest if writer else load_manifest(cache)
        work = find_work(plan, cache, manifest, shard_bytes=shard_bytes, origin=origin)
        ranks.wait()  # until all have read it, for the lead is about to change it
        if writer:
            _require_room(cache, work, spec)
            require_same_pictures(
                source, plan, work.image_rows, images, cache=cache, manifest=manifest
            )
        shelf = Shelf(cache, work, ranks, writer)
        with shelf.share("images", work.images) as (mine, advance):
            for key, ids in mine:
                done = encode_images(
                    source, ids, images, spec, batch_size=batch_size, advance=advance
                )
                shard = image_shard(spec, done.new, origin=origin) if done.new.image_ids else None
                shelf.lay("images", key, shard, failures=done.failures)
        with shelf.share("questions", work.questions) as (chunks, advance):
            for key, chunk in chunks:
                new = encode_questions(chunk, plan.questions, text, spec, advance=advance)
                shelf.lay("questions", key, question_shard(spec, new, origin=origin))
        ranks.wait()
        shelf.finish()
        if writer:
            _write_splits(plan, writer, origin)
        ranks.wait()  # until there is a report to give
        manifest = writer.manifest if writer else load_manifest(cache)
    return _report(plan, manifest, work, seconds=time.monotonic() - started)


def _require_room(cache: Path, work: Work, spec: CacheSpec) -> None:
    """Refuse before the first hour of work what the disk cannot hold."""
    need = sum(len(chunk) for chunk in work.images.values()) * spec.image_row_bytes
    need += sum(len(chunk.tokens) for chunk in work.questions.values()) * spec.prefix_row_bytes
    free = shutil.disk_usage(cache).free
    if need > free:
        raise CacheError(
            f"{cache}: {size(need)} are needed for what is missing, but {size(free)} "
            f"are free on this disk. Free some, give another --cache, or try --limit."
        )


def _write_splits(plan: Plan, writer: CacheWriter, origin: Mapping[str, Json]) -> None:
    """Write each split's table, and which of its questions could not be used."""
    rows: list[dict[str, int]] = []
    for kind in ("images", "questions"):
        names = read_names(writer.directory, writer.manifest, kind)
        rows.append({name: row for row, name in enumerate(names)})
    images, questions = rows
    failed = {failure.id for failure in writer.manifest.failures if not failure.split}
    if lost := [i for i in map(str, plan.images) if i not in images and i not in failed]:
        raise CacheError(
            f"{writer.directory}: {len(lost):,} pictures are neither stored nor listed as "
            f"unreadable, such as {lost[0]!r}. Run the same command again."
        )
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
            origin=_origin_of(name, origin),
        )


def _origin_of(split: str, origin: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a split's own table depends on of all that was asked for."""
    about = {name: value for name, value in origin.items() if name != "batch_size"}
    return about | {"splits": [split]} if about else about


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
