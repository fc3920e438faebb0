"""Stage one: both frozen encoders run once, and the cache keeps all their features.

    source ── pictures ── decode (threads) ── ImageEncoder ─┐
       └───── questions ── distinct prefixes ── TextEncoder ┴─ ShardQueue (threads) ── CacheWriter
                                        (each rank its share)                 (the first rank)

While a batch is encoded, the next ones are decoded and the shards before it are written. A picture
is encoded once, whatever its files are called, and a question once per distinct text. The data and
the rows that are stored already decide what a shard and a batch hold; time, memory and the number
of processes do not. So an interrupted extraction ends in the same bytes.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from frozen_vqa.cache import CacheError, CacheWriter, Failure, Manifest, load_manifest
from frozen_vqa.cache.disk.integrity import read_known_pictures
from frozen_vqa.cache.format.shards import question_shard
from frozen_vqa.cache.large.dicts import LargeDict
from frozen_vqa.cache.left_out import note_pictures
from frozen_vqa.cache.names import require_split_name
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.batch_size import BatchSize, choose_batch_size
from frozen_vqa.pipeline.extract.chunks import MissingWork, add_rows, find_missing_work
from frozen_vqa.pipeline.extract.engines.engine import Engine
from frozen_vqa.pipeline.extract.feature_encoder import EncodedImages, FeatureEncoder
from frozen_vqa.pipeline.extract.models.precision import settle_precision
from frozen_vqa.pipeline.extract.models.preflight import settle_models
from frozen_vqa.pipeline.extract.models.several import cache_spec, join_encoders
from frozen_vqa.pipeline.extract.origin import of_split
from frozen_vqa.pipeline.extract.plan import Plan, merge_same_pictures, split_table, with_pictures
from frozen_vqa.pipeline.extract.shard_queue import ShardQueue
from frozen_vqa.pipeline.extract.throughput import Throughput, append_throughput
from frozen_vqa.pipeline.sources.example import Source
from frozen_vqa.pipeline.system.device import device_name, keep_freed_memory, use_cores
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks
from frozen_vqa.pipeline.watch.figures import Values
from frozen_vqa.pipeline.watch.prometheus import Part

SHARD_BYTES = 128 << 20
"""Size of a full shard. A kill costs the seconds of GPU work that three shards take at most. Memory
holds three times this much: the shards of two `WRITERS`, and the features of the next one."""


@dataclass(frozen=True)
class Report:
    """The result of an extraction.

    Attributes:
        images: "total" of different ones, their "ids", "encoded" in this run, "skipped" because
            they cannot be read.
        questions: "total", "distinct", "tokens" (all questions), "prefixes" (rows stored),
            "skipped" because they cannot be used.
        bytes: Bytes of the whole cache.
        seconds: Wall time of this run.
        left_out: Questions missing from their split, because they or their pictures are unusable.
        failures: The pictures that cannot be read and the questions that cannot be used.
        extraction: The speed; None if nothing new was stored.
    """

    images: dict[str, int]
    questions: dict[str, int]
    bytes: int
    seconds: float
    left_out: int
    failures: Sequence[Failure]
    extraction: Throughput | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        failures = [failure.to_json() for failure in self.failures]
        about = {"seconds": round(self.seconds, 3), "failures": failures}
        return vars(self) | about | {"extraction": self.extraction and self.extraction.to_json()}


def extract(
    source: Source,
    plan: Plan,
    *,
    cache: Path | str,
    images: ImageEncoder | Sequence[ImageEncoder],
    text: TextEncoder,
    dtype: str = "float16",
    pool: int = 1,
    batch_size: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    origin: Mapping[str, Json] | None = None,
    ranks: Ranks = ALONE,
    engine: Engine | None = None,
) -> Report:
    """Extend the cache until it holds everything that `plan` names; stored rows stay.

    Args:
        source: The data set that has the pictures.
        plan: From `make_plan` on the same source.
        cache: Folder of the cache, which is made or extended.
        images, text: The encoders of pictures and questions. Features of several encoders of
            pictures lie side by side in the cache; all must have the same grid.
        dtype: How numbers are stored, one of `DTYPES` (`CacheSpec`).
        pool: 2 stores the mean of each 2 x 2 patches in their place.
        batch_size: Pictures per batch. None takes the size that the cache was made with, or the
            fastest for a new cache. It is halved for good when memory runs out.
        shard_bytes: Bytes of features per shard; smaller shards are stored sooner.
        origin: Facts about the source, which the cache records so that a rebuild finds it again.
        ranks: The processes that share the work; all of them call this with the same plan.
        engine: Workers that encode in place of this process.

    Raises:
        CacheError: if the cache belongs to other data, or the disk is too small.
        ModelError: if a model cannot be loaded or run.
        PipelineError: if another rank has stopped.
    """
    for name in plan.splits:
        require_split_name(name)
    keep_freed_memory()
    use_cores()
    cache = Path(cache)
    images = join_encoders(images) if isinstance(images, Sequence) else images
    settle = engine.settle if engine else partial(settle_precision, ranks=ranks)
    origin = {**(origin or {}), **settle(source, plan, images, text, cache)}
    spec = cache_spec(images, text, dtype, pool)
    with CacheWriter(cache, spec) if ranks.lead else nullcontext() as writer:
        ranks.wait()  # until the first rank has the lock and has removed leftovers
        known = read_known_pictures(cache, writer.manifest if writer else load_manifest(cache))
        plan = merge_same_pictures(plan, source, known)
        encoder = FeatureEncoder(source, plan, images, text, dtype, pool)
        about = {"metric": one} if (one := getattr(source, "metric", None)) else {}
        extraction = _Extraction(encoder, cache, writer, ranks, origin, about, known.ids, engine)
        return extraction.run(batch_size, shard_bytes)


@dataclass
class _Extraction:
    """One rank's part of an extraction; each method is a step of it."""

    encoder: FeatureEncoder
    cache: Path
    writer: CacheWriter | None  # on the first rank
    ranks: Ranks
    origin: Mapping[str, Json]
    metric: Mapping[str, Json]  # for the origin of a split
    known: Mapping[str, str]  # the name of each image id that the cache had before
    engine: Engine | None

    def __post_init__(self) -> None:
        self.began, self.started = datetime.now(UTC), time.monotonic()
        self.plan, self.before = self.encoder.plan, self.manifest

    @property
    def manifest(self) -> Manifest:
        return self.writer.manifest if self.writer else load_manifest(self.cache)

    def run(self, batch_size: int | None, shard_bytes: int) -> Report:
        """Take all steps; the arguments are those of `extract`."""
        self.batch_size = BatchSize(batch_size or self._agree_on_batch_size())
        self.origin = {**self.origin, "batch_size": self.batch_size.now}
        work = find_missing_work(
            self.plan, self.cache, self.before, shard_bytes=shard_bytes, origin=self.origin
        )
        self.ranks.wait()  # until all have read the cache, because the first rank will change it
        if self.writer:
            rows = LargeDict.of((i, work.rows["images"][name]) for i, name in self.known.items())
            decoder = self.encoder.decoder
            decoder.require_same(self.plan.image_ids, rows, self.cache, self.before)
        size = self.batch_size.now
        together = bool(self.engine) or settle_models(self.encoder, work, self.cache, size)
        queue = ShardQueue(self.cache, work, self.ranks, self.writer)
        with Part(partial(self._figures, queue)):
            throughput = self._encode(work, queue, together)
            if self.writer:
                self._write_splits(self.writer, work)
            self.ranks.wait()  # until the splits are there to be reported
        return self._report(throughput)

    def _agree_on_batch_size(self) -> int:
        """Return the first rank's choice, which all have to use: chunk names depend on it."""
        size = self.engine.batch_size(self.before) if self.engine else 0
        if self.ranks.lead and not size:
            pixels = partial(self.encoder.decoder.first_pixels, self.plan.images)
            size = choose_batch_size(self.encoder.images, self.before, pixels)
        return self.ranks.agree(size)

    def _encode(self, work: MissingWork, queue: ShardQueue, together: bool) -> Throughput | None:
        """Encode and store all missing rows; log the speed, even of a run that is stopped.

        Unless the models fit the memory `together`, the one for pictures is freed when it is done.
        """
        throughput = None
        try:
            with queue:
                if self.engine:
                    self.engine.encode(self.encoder, work, queue, self.origin, self.cache)
                else:
                    self._encode_images(work, queue)
                    if not together:
                        self.encoder.images.unload()
                    self._encode_questions(work, queue)
            self.ranks.wait()
            queue.adopt_rest()
        finally:
            if self.writer and (found := self._measure(queue)).stored:
                append_throughput(self.cache, throughput := found)
        return throughput

    def _encode_images(self, work: MissingWork, queue: ShardQueue) -> None:
        with (
            queue.share("images", work.images) as (mine, timer),
            closing(self.encoder.encode_images(mine.values(), self.batch_size, timer)) as encoded,
        ):
            for key in mine:
                # No name here refers to the features, so that the queue alone keeps them.
                self._put_images(queue, key, next(encoded))

    def _put_images(self, queue: ShardQueue, key: str, encoded: EncodedImages) -> None:
        # Fewer than were asked for, if the memory did not suffice.
        origin = {**self.origin, "batch_size": self.batch_size.now}
        build = partial(encoded.to_shard, self.encoder.spec, origin)
        queue.put("images", key, build, failures=self.encoder.failures_of(encoded.failures))

    def _encode_questions(self, work: MissingWork, queue: ShardQueue) -> None:
        with queue.share("questions", work.questions) as (mine, timer):
            build = partial(question_shard, self.encoder.spec, origin=self.origin)
            encode = self.encoder.encode_questions
            for key, chunk in mine.items():
                # No name here refers to the features either.
                queue.put("questions", key, partial(build, encode(chunk, timer)))

    def _figures(self, queue: ShardQueue) -> Values:
        workers = self.engine.nodes.alive() if self.engine else {"": self.ranks.world}
        return self._measure(queue).figures(queue.left(), self.manifest, workers)

    def _measure(self, queue: ShardQueue) -> Throughput:
        """Return how fast this run is, or was."""
        found = Throughput.measure(
            self.before,
            self.manifest,
            queue.timers,
            began=self.began,
            seconds=time.monotonic() - self.started,
            batch_size=self.batch_size.now,
            device=device_name(self.encoder.images.device),
            ranks=self.ranks.world,
        )
        return replace(found, **self.engine.nodes.measured()) if self.engine else found

    def _write_splits(self, writer: CacheWriter, work: MissingWork) -> None:
        """Write each split's table, and the questions of it that cannot be used."""
        stored, questions = (
            add_rows(rows, self.cache, writer.manifest, kind, first=len(self.before.shards(kind)))
            for kind, rows in work.rows.items()
        )
        every = ((str(i), self.plan.name(i)) for i in self.plan.image_ids)
        images = LargeDict.of((i, stored[name]) for i, name in every if name in stored)
        failed = {failure.id for failure in writer.manifest.failures if not failure.split}
        if lost := [i for i in map(str, self.plan.images) if i not in images and i not in failed]:
            raise CacheError(
                f"{self.cache}: {len(lost):,} pictures are neither stored nor listed as "
                f"unreadable, such as {lost[0]!r}. Run the same command again."
            )
        for name, examples in self.plan.splits.items():
            kept, without = with_pictures(examples, images)
            unusable = self.plan.left_out.get(name, ())
            writer.set_split(
                name,
                split_table(self.plan, kept, images, questions),
                left_out=len(without) + len(unusable),
                failures=[Failure(q.question_id, q.where, q.reason, name) for q in unusable],
                tokens=sum(len(self.plan.questions[text]) for one in kept for text in one.texts),
                origin=of_split(self.origin, name) | dict(self.metric) | note_pictures(without),
            )

    def _report(self, throughput: Throughput | None) -> Report:
        manifest = self.manifest
        wanted = {f.id for f in manifest.failures}.intersection(map(str, self.plan.image_ids))
        pictures = [f for f in manifest.failures if not f.split and f.id in wanted]
        questions = [f for f in manifest.failures if f.split in self.plan.splits]
        return Report(
            images=self.plan.picture_counts()
            | {
                "encoded": manifest.image_rows - self.before.image_rows,
                "skipped": len({self.plan.name(str(failure.id)) for failure in pictures}),
            },
            questions=self.plan.counts() | {"skipped": len(questions)},
            bytes=manifest.bytes,
            seconds=time.monotonic() - self.started,
            left_out=sum(manifest.splits[name].left_out for name in self.plan.splits),
            failures=[*pictures, *questions],
            extraction=throughput,
        )
