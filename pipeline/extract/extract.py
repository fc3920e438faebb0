"""Stage one: both frozen encoders run once, and everything they say is stored.

    source ── pictures ── decode (threads) ── ImageEncoder ─┐  (a thread)
       └───── questions ── distinct prefixes ── TextEncoder ┴─ shards laid aside ── CacheWriter
                                        (every rank its share)                       (the first)

While a batch is encoded, the next one is decoded and the shard before this one is written.
Pictures are encoded once per image id and questions once per distinct text. What falls into which
shard and batch is a function of the data and of what is stored already, never of time, memory or
the number of processes, so that an interrupted extraction ends in the same bytes.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.cache import (
    CacheError,
    CacheSpec,
    CacheWriter,
    Failure,
    Manifest,
    SplitTable,
    load_manifest,
)
from frozen_vqa.cache.disk.integrity import read_names
from frozen_vqa.cache.format.shards import NewImages, Shard, image_shard, question_shard
from frozen_vqa.cache.format.spec import Json
from frozen_vqa.cache.writer import require_split_name
from frozen_vqa.pipeline.encoders.encoders import ImageEncoder, TextEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.extract.batch_size import BatchSize, choose_batch_size
from frozen_vqa.pipeline.extract.images import encode_images, require_same_pictures
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.questions import encode_questions
from frozen_vqa.pipeline.extract.shard_queue import Shelf, Work, find_work
from frozen_vqa.pipeline.extract.throughput import Extraction, log, measured
from frozen_vqa.pipeline.sources.example import Source
from frozen_vqa.pipeline.system.console import size
from frozen_vqa.pipeline.system.device import device_name, keep_freed_memory, use_cores
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks

SHARD_BYTES = 128 << 20
"""Size of a full shard: seconds of a GPU's work are at stake in a kill, and four times this much
memory is needed: three times to build one, once for the next one's features."""


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
        extraction: How fast it was; None if nothing new was stored.
    """

    images: dict[str, int]
    questions: dict[str, int]
    bytes: int
    seconds: float
    left_out: int
    failures: Sequence[Failure]
    extraction: Extraction | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        failures = [failure.to_json() for failure in self.failures]
        about = {"seconds": round(self.seconds, 3), "failures": failures}
        return vars(self) | about | {"extraction": self.extraction and self.extraction.to_json()}


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
    batch_size: int | None = None,
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
        batch_size: Pictures per batch; None for what the cache was made with, or, when one is
            begun, for the fastest. Halved for good when a GPU's memory does not suffice.
        shard_bytes: Features per shard; a smaller shard is sooner safe.
        origin: What is to be recorded of the source, so that it can be found again.
        ranks: The processes that share the work; all have to call this with the same plan.

    Raises:
        CacheError: and its kinds, if the cache is another's, or the disk too small.
        ModelError: if a model cannot be loaded or run.
        PipelineError: if another rank has stopped.
    """
    began, started = datetime.now(UTC), time.monotonic()
    spec = cache_spec(images, text, dtype)
    for name in plan.splits:
        require_split_name(name)
    keep_freed_memory()
    use_cores()
    with ExitStack() as stack:
        writer = stack.enter_context(CacheWriter(cache, spec)) if ranks.lead else None
        ranks.wait()  # until the lead has the lock, and leftovers are gone
        manifest = writer.manifest if writer else load_manifest(cache)
        if batch_size is None:
            batch_size = _agreed_batch_size(source, plan, images, manifest, ranks)
        pictures = BatchSize(batch_size)
        origin = {**(origin or {}), "batch_size": pictures.now}
        work = find_work(plan, cache, manifest, shard_bytes=shard_bytes, origin=origin)
        ranks.wait()  # until all have read it, for the lead is about to change it
        if writer:
            _require_room(cache, work, spec)
            require_same_pictures(
                source, plan, work.image_rows, images, cache=cache, manifest=manifest
            )
        shelf, extraction = Shelf(cache, work, ranks, writer), None
        try:
            with shelf:
                _encode(source, plan, work, shelf, images, text, spec, pictures, origin)
            ranks.wait()
            shelf.finish()
        finally:
            if writer:  # also of a run that was stopped
                extraction = measured(
                    shelf.paces,
                    writer.manifest.image_rows - manifest.image_rows,
                    writer.manifest.question_rows - manifest.question_rows,
                    began=began,
                    seconds=time.monotonic() - started,
                    batch_size=pictures.now,
                    device=device_name(images.device),
                    ranks=ranks.world,
                )
                log(cache, extraction)
        if writer:
            _write_splits(plan, writer, origin)
        ranks.wait()  # until there is a report to give
        manifest = writer.manifest if writer else load_manifest(cache)
    return _report(plan, manifest, work, seconds=time.monotonic() - started, extraction=extraction)


def _agreed_batch_size(
    source: Source, plan: Plan, encoder: ImageEncoder, manifest: Manifest, ranks: Ranks
) -> int:
    """Return what the first rank finds best for all: a chunk's name tells its batch size."""

    def pixels() -> np.ndarray | None:
        for image_id in plan.images:
            with suppress(ImageError):
                return encoder.pixels(load_rgb(source.picture(image_id)))
        return None

    return ranks.agree(choose_batch_size(encoder, manifest, pixels) if ranks.lead else 0)


def _encode(
    source: Source,
    plan: Plan,
    work: Work,
    shelf: Shelf,
    images: ImageEncoder,
    text: TextEncoder,
    spec: CacheSpec,
    batch_size: BatchSize,
    origin: Mapping[str, Json],
) -> None:
    """Encode this rank's share and hand it to the shelf."""
    with shelf.share("images", work.images) as (mine, pace):
        chunks = [ids for _, ids in mine]
        encoding = encode_images(source, chunks, images, spec, batch_size=batch_size, pace=pace)
        with closing(encoding) as encoded:
            for key, _ in mine:
                done = next(encoded)
                # Fewer than were asked for, once memory has not sufficed.
                where = {**origin, "batch_size": batch_size.now}
                build = partial(_image_shard, spec, done.new, where)
                shelf.lay("images", key, build, failures=done.failures)
                del done, build  # the shelf alone keeps the features, and not for long
    with shelf.share("questions", work.questions) as (texts, pace):
        for key, chunk in texts:
            new = encode_questions(chunk, plan.questions, text, spec, pace=pace)
            shelf.lay("questions", key, partial(question_shard, spec, new, origin=origin))
            del new


def _image_shard(spec: CacheSpec, new: NewImages, origin: Mapping[str, Json]) -> Shard | None:
    return image_shard(spec, new, origin=origin) if new.image_ids else None


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


def _report(
    plan: Plan,
    manifest: Manifest,
    work: Work,
    *,
    seconds: float,
    extraction: Extraction | None,
) -> Report:
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
        extraction=extraction,
    )
