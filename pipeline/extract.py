"""Stage one: both frozen encoders run once, and everything they say is stored.

    source ── pictures ── decode (threads) ── ImageEncoder ─┐
       └───── questions ── distinct prefixes ── TextEncoder ┴─ CacheWriter, one shard at a time

Pictures are encoded once per image id and questions once per distinct text. What falls into which
shard and batch is a function of the data and of what is stored already, never of time or memory,
so that an interrupted extraction ends in the same bytes.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheError, CacheSpec, CacheWriter, Failure, SplitTable
from pipeline.display import size
from pipeline.encoders import ImageEncoder, TextEncoder
from pipeline.examples import Source
from pipeline.extract_images import extract_images
from pipeline.extract_questions import extract_questions, missing_prefixes
from pipeline.plan import Plan

SHARD_BYTES = 128 << 20
"""Size of a full shard: seconds of a GPU's work are at stake in a kill, and three times this much
memory is needed to build one."""


@dataclass(frozen=True)
class Report:
    """What an extraction did.

    Attributes:
        images: "total", "encoded" in this run, "skipped" because they cannot be read.
        questions: "total", "distinct", "tokens" (all questions), "prefixes" (rows stored).
        bytes: Of the whole cache.
        seconds: Wall time of this run.
        left_out: Questions that left their split because their picture cannot be read.
        failures: The pictures that cannot be read.
    """

    images: dict[str, int]
    questions: dict[str, int]
    bytes: int
    seconds: float
    left_out: int
    failures: Sequence[Failure]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


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

    Raises:
        CacheError: and its kinds, if the cache is another's, or the disk too small.
        ModelError: if a model cannot be loaded or run.
    """
    started = time.monotonic()
    spec = cache_spec(images, text, dtype)
    with CacheWriter(cache, spec) as writer:
        stored = writer.image_rows()
        _require_room(writer, plan, stored)
        encoded = extract_images(
            source, plan, writer, images, stored, batch_size=batch_size, shard_bytes=shard_bytes
        )
        extract_questions(plan, writer, text, shard_bytes=shard_bytes)
        left_out = _write_splits(plan, writer)
        wanted = {str(image_id) for image_id in plan.images}
        failures = [f for f in writer.manifest.failures if f.image_id in wanted]
        return Report(
            images={"total": len(plan.images), "encoded": encoded, "skipped": len(failures)},
            questions=plan.counts(),
            bytes=writer.manifest.bytes,
            seconds=time.monotonic() - started,
            left_out=left_out,
            failures=failures,
        )


def _require_room(writer: CacheWriter, plan: Plan, stored: Mapping[str, int]) -> None:
    """Refuse before the first hour of work what the disk cannot hold."""
    spec = writer.manifest.spec
    images = sum(str(image_id) not in stored for image_id in plan.images)
    need = images * spec.image_row_bytes
    need += missing_prefixes(plan, writer) * spec.prefix_row_bytes
    free = shutil.disk_usage(writer.directory).free
    if need > free:
        raise CacheError(
            f"{writer.directory}: {size(need)} are needed for what is missing, but {size(free)} "
            f"are free on this disk. Free some, give another --cache, or try --limit."
        )


def _write_splits(plan: Plan, writer: CacheWriter) -> int:
    """Write each split's table; return how many questions had to be left out."""
    images, questions = writer.image_rows(), writer.question_rows()
    left_out = 0
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
        writer.set_split(name, table, left_out=len(examples) - len(kept))
        left_out += len(examples) - len(kept)
    return left_out
