"""Stage one: both frozen encoders run once, and everything they say is stored.

    source ── pictures ── decode (threads) ── ImageEncoder ─┐
       └───── questions ── distinct prefixes ── TextEncoder ┴─ CacheWriter, one shard at a time

Pictures are encoded once per image id and questions once per distinct text. What falls into which
shard and batch is a function of the data and of what is stored already, never of time or memory,
so that an interrupted extraction ends in the same bytes.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache import CacheError, CacheSpec, CacheWriter, Failure, SplitTable
from cache.writer import NewQuestions
from pipeline.display import progress, size
from pipeline.encoders import ImageEncoder, TextEncoder
from pipeline.errors import ImageError, ModelError
from pipeline.examples import Id, Source
from pipeline.images import load_rgb
from pipeline.plan import Plan
from pipeline.prefixes import PrefixTable

SHARD_BYTES = 128 << 20
"""Size of a full shard: seconds of a GPU's work are at stake in a kill, and three times this much
memory is needed to build one."""

TEXT_BATCH = 64
"""Questions of equal length per batch; a constant, because it may change the last bit."""

DECODERS = 4
"""Threads that read and resize pictures while the encoder works."""


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
        _require_room(writer, plan, stored_images=len(stored))
        encoded = _extract_images(
            source, plan, writer, images, stored, batch_size=batch_size, shard_bytes=shard_bytes
        )
        _extract_questions(plan, writer, text, shard_bytes=shard_bytes)
        left_out = _write_splits(plan, writer)
        wanted = {str(image_id) for image_id in plan.images}
        failures = [f for f in writer.manifest.failures if f.image_id in wanted]
        return Report(
            images={"total": len(plan.images), "encoded": encoded, "skipped": len(failures)},
            questions={
                "total": plan.question_count,
                "distinct": len(plan.questions),
                "tokens": plan.tokens,
                "prefixes": plan.prefixes,
            },
            bytes=writer.manifest.bytes,
            seconds=time.monotonic() - started,
            left_out=left_out,
            failures=failures,
        )


def _require_room(writer: CacheWriter, plan: Plan, *, stored_images: int) -> None:
    """Refuse before the first hour of work what the disk cannot hold."""
    missing = max(0, len(plan.images) - stored_images)
    need = missing * writer.manifest.spec.image_row_bytes
    need += max(0, plan.prefixes - writer.manifest.prefix_rows) * (
        writer.manifest.spec.prefix_row_bytes
    )
    free = shutil.disk_usage(writer.directory).free
    if need > free:
        raise CacheError(
            f"{writer.directory}: {size(need)} are needed for what is missing, but {size(free)} "
            f"are free on this disk. Free some, give another --cache, or try --limit."
        )


def _extract_images(
    source: Source,
    plan: Plan,
    writer: CacheWriter,
    encoder: ImageEncoder,
    stored: dict[str, int],
    *,
    batch_size: int,
    shard_bytes: int,
) -> int:
    """Encode the pictures that the cache lacks; return how many were encoded."""
    missing = [image_id for image_id in plan.images if str(image_id) not in stored]
    if not missing:
        return 0
    # Pictures that failed before come last: the shards of the others must not depend on them.
    failed = {failure.image_id for failure in writer.manifest.failures}
    rows = max(1, shard_bytes // writer.manifest.spec.image_row_bytes)
    shards = [
        chunk
        for again in (False, True)
        for chunk in _chunks([i for i in missing if (str(i) in failed) == again], rows)
    ]
    encoded = 0
    with (
        ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as threads,
        progress("images", len(missing)) as advance,
    ):
        for shard in shards:
            ids, patches, cls, failures = [], [], [], []
            for batch in _decoded(source, encoder, shard, batch_size, threads):
                good = [(i, p) for i, p in batch if isinstance(p, np.ndarray)]
                failures += [
                    Failure(str(i), source.where(i), str(p))
                    for i, p in batch
                    if isinstance(p, ImageError)
                ]
                if good:
                    ids += [str(image_id) for image_id, _ in good]
                    p, c = _encode_pictures(encoder, np.stack([p for _, p in good]))
                    patches.append(_stored(p, writer.manifest.spec.dtype))
                    cls.append(_stored(c, writer.manifest.spec.dtype))
                advance(len(batch), note=f"{len(failures)} unreadable" if failures else "")
            if ids:
                writer.add_images(
                    ids, np.concatenate(patches), np.concatenate(cls), failures=failures
                )
            else:
                writer.add_images([], np.empty(0), np.empty(0), failures=failures)
            encoded += len(ids)
    return encoded


def _chunks(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), count):
        yield items[first : first + count]


def _decoded(
    source: Source,
    encoder: ImageEncoder,
    shard: Sequence[Id],
    batch_size: int,
    threads: ThreadPoolExecutor,
) -> Iterator[list[tuple[Id, np.ndarray | ImageError]]]:
    """Yield batches of (image id, pixels or what went wrong), one batch being decoded ahead."""

    def decode(image_id: Id) -> np.ndarray | ImageError:
        try:
            return encoder.pixels(load_rgb(source.picture(image_id)))
        except ImageError as error:
            return error

    def submit(batch: Sequence[Id]) -> list[tuple[Id, Future]]:
        return [(image_id, threads.submit(decode, image_id)) for image_id in batch]

    batches = list(_chunks(shard, batch_size))
    ahead = submit(batches[0])
    for following in [*batches[1:], ()]:
        current, ahead = ahead, submit(following)
        yield [(image_id, future.result()) for image_id, future in current]


def _encode_pictures(encoder: ImageEncoder, pixels: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Encode a batch, in halves if the device's memory does not suffice."""
    try:
        return encoder.encode(pixels)
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise ModelError(
                f"{encoder.name}: one picture of {encoder.image_size} pixels does not fit the "
                f"memory of {encoder.device}; use --device cpu or a smaller --image-size"
            ) from None
    # Outside the except block, whose traceback keeps the failed batch's tensors alive.
    half = len(pixels) // 2
    parts = [_encode_pictures(encoder, part) for part in (pixels[:half], pixels[half:])]
    return torch.cat([parts[0][0], parts[1][0]]), torch.cat([parts[0][1], parts[1][1]])


def _stored(x: torch.Tensor, dtype: str) -> np.ndarray:
    return x.to(getattr(torch, dtype)).cpu().numpy()


def _extract_questions(
    plan: Plan, writer: CacheWriter, encoder: TextEncoder, *, shard_bytes: int
) -> None:
    """Encode the distinct questions that the cache lacks."""
    stored = writer.question_rows()
    missing = [text for text in plan.questions if text not in stored]
    if not missing:
        return
    table = PrefixTable(*writer.prefixes())
    rows = max(1, shard_bytes // writer.manifest.spec.prefix_row_bytes)
    with progress("questions", len(missing)) as advance:
        while missing:
            first = len(table)
            paths: dict[str, list[int]] = {}
            for text in missing:
                if len(table) - first >= rows:
                    break
                paths[text] = table.add(plan.questions[text])
            missing = missing[len(paths) :]
            states = np.empty((len(table) - first, encoder.dim), dtype=writer.manifest.spec.dtype)
            for batch, done in _equal_lengths(paths, first):
                if batch:
                    _fill(states, first, batch, paths, plan, encoder)
                advance(done)
            parents, tokens = table.since(first)
            writer.add_questions(
                NewQuestions(list(paths), list(paths.values()), parents, tokens, states)
            )


def _equal_lengths(paths: dict[str, list[int]], first: int) -> Iterator[tuple[list[str], int]]:
    """Yield batches of questions of one length, and how many questions each settles."""
    known = [text for text, path in paths.items() if path[-1] < first]
    yield [], len(known)  # every prefix of theirs is in the cache
    # A question that is a prefix of another gets its states with the longer one's.
    inner = {row for path in paths.values() for row in path[:-1]}
    leaves = [t for t, path in paths.items() if path[-1] >= first and path[-1] not in inner]
    yield [], len(paths) - len(known) - len(leaves)
    by_length: dict[int, list[str]] = {}
    for text in leaves:
        by_length.setdefault(len(paths[text]), []).append(text)
    for length in sorted(by_length):
        for batch in _chunks(by_length[length], TEXT_BATCH):
            yield list(batch), len(batch)


def _fill(
    states: np.ndarray,
    first: int,
    batch: Sequence[str],
    paths: dict[str, list[int]],
    plan: Plan,
    encoder: TextEncoder,
) -> None:
    """Run one batch and store the states of its new prefixes in `states`."""
    rows = np.array([paths[text] for text in batch])  # (questions, length)
    encoded = _stored(encoder.encode([plan.questions[text] for text in batch]), states.dtype.name)
    new = rows >= first
    states[rows[new] - first] = encoded[new]


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
