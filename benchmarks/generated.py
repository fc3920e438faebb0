"""Made-up photographs; a whole cache of made-up features, written through the real writer.

Rows look like those of the encoders: Gaussian, with a few channels that are far larger. They are
cut out of one block of random numbers at random places, so that gigabytes take seconds; the first
patch of each picture is its own, so that no two rows are alike.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from frozen_vqa.cache import CacheSpec, CacheWriter, SplitTable
from frozen_vqa.cache.disk.staging import chunk_key, stage_shard
from frozen_vqa.cache.format.bfloat16 import BFLOAT16, round_to_bfloat16
from frozen_vqa.cache.format.quantise import quantise
from frozen_vqa.cache.format.shards import (
    THUMBNAIL,
    NewImages,
    NewQuestions,
    Shard,
    image_shard,
    question_shard,
)

SHARD_BYTES = 128 << 20
POOL_PATCHES = 16_384
OUTLIERS, OUTLIER_SIZE = 4, 20.0
SHORTEST, LONGEST = 4, 25
"""Tokens of a question."""

SHARED = 0.6
"""Chance that the next token of a question is also that of an earlier one."""

WIDTH, HEIGHT = 640, 480
NOISE = 12.0
"""Grey levels; makes files of 120 kB, as a camera's are."""

KINDS = (("what is", "other"), ("is there", "yes/no"), ("how many", "number"))
ANNOTATORS = 10


def write_cache(
    directory: Path,
    *,
    images: int,
    questions_per_image: int,
    distinct_questions: int,
    answers: int,
    spec: CacheSpec,
    seed: int = 0,
    rows_per_shard: int | None = None,
    one_long: int | None = None,
) -> None:
    """Write a cache with the splits `train` and `val`; the last twentieth of the pictures is val's.

    Args:
        directory: Of the cache; made if it does not exist.
        images: Pictures, at least 2.
        questions_per_image: Questions about each.
        distinct_questions: Texts that these are drawn from.
        answers: Classes that the ten answers of a question are drawn from.
        spec: Shapes and dtype.
        seed: The same arguments give the same bytes.
        rows_per_shard: Pictures in a shard; by default as many as `SHARD_BYTES` holds.
        one_long: Tokens of one more distinct question, the last, which no split asks.
    """
    if images < 2:
        raise ValueError(f"{images} pictures cannot be two splits")
    rng = np.random.default_rng(seed)
    with CacheWriter(directory, spec) as writer:
        pool = features(rng, max(POOL_PATCHES, 2 * spec.patches), spec.vision_dim, spec)
        for shard in image_shards(spec, pool, images, rng, rows_per_shard):
            add(writer, shard)
        for shard in _question_shards(spec, distinct_questions, rng, one_long):
            add(writer, shard)
        val = max(1, images // 20)
        for name, rows in {
            "train": range(images - val),
            "val": range(images - val, images),
        }.items():
            writer.set_split(
                name, split_table(rows, questions_per_image, distinct_questions, answers, rng)
            )


def features(rng: np.random.Generator, rows: int, width: int, spec: CacheSpec) -> np.ndarray:
    """Return (rows, width) of which a few channels, spread out, are far larger than the others."""
    features = rng.standard_normal((rows, width), np.float32)
    features[:, :: max(1, width // OUTLIERS)] *= OUTLIER_SIZE
    wide = spec.state_dtype == BFLOAT16
    return round_to_bfloat16(features) if wide else features.astype(spec.state_dtype)


def image_shards(
    spec: CacheSpec,
    pool: np.ndarray,
    images: int,
    rng: np.random.Generator,
    rows_per_shard: int | None = None,
) -> Iterator[Shard]:
    """Yield the shards of so many pictures, cut out of a pool of `features`."""
    step = rows_per_shard or max(1, SHARD_BYTES // spec.image_row_bytes)
    for first in range(0, images, step):
        yield _image_shard(spec, pool, range(first, min(first + step, images)), rng)


def add(writer: CacheWriter, shard: Shard) -> None:
    """Store a shard."""
    key = chunk_key(writer.manifest.spec, {}, list(shard.names))
    stage_shard(writer.directory, key, shard, kind=shard.kind)
    writer.adopt(shard.kind, [key])


def _image_shard(spec: CacheSpec, pool: np.ndarray, rows: range, rng: np.random.Generator) -> Shard:
    patches = np.empty((len(rows), spec.patches, spec.vision_dim), pool.dtype)
    for row, start in zip(
        patches, rng.integers(0, len(pool) - spec.patches, len(rows)), strict=True
    ):
        row[:] = pool[start : start + spec.patches]
    patches[:, 0] = features(rng, len(rows), spec.vision_dim, spec)
    thumbnails = rng.integers(0, 256, (len(rows), THUMBNAIL), np.uint8)
    cls = patches[:, 0].copy()
    ids = [f"picture {row}" for row in rows]
    scales = None
    if spec.quantised:
        patches, scales = quantise(patches)
    return image_shard(spec, NewImages(ids, thumbnails, patches, cls, scales))


def _question_shards(
    spec: CacheSpec, count: int, rng: np.random.Generator, one_long: int | None
) -> Iterator[Shard]:
    """Yield distinct questions, each beginning as an earlier one does and going on by itself.

    Token and row of a prefix are the same number, so that no two prefixes of one parent are equal.
    """
    most = max(1, SHARD_BYTES // spec.prefix_row_bytes)
    # A negative binomial around 8.5 tokens with a long tail, as in VQAv2.
    lengths = np.minimum(SHORTEST + rng.negative_binomial(3, 0.4, count), LONGEST)
    lengths = np.append(lengths, one_long or [])
    paths: list[list[int]] = []
    parents: list[int] = []
    written = rows = 0
    for length in map(int, lengths):
        earlier = paths[rng.integers(len(paths))] if paths else []
        path = earlier[: min(1 + int(rng.binomial(length - 1, SHARED)), length - 1)]
        for row in range(rows, rows + length - len(path)):
            parents.append(path[-1] if path else -1)
            path.append(row)
        rows = path[-1] + 1
        paths.append(path)
        if len(parents) >= most:
            yield _question_shard(spec, paths[written:], parents, rows, written, rng)
            written, parents = len(paths), []
    if parents:
        yield _question_shard(spec, paths[written:], parents, rows, written, rng)


def _question_shard(
    spec: CacheSpec,
    paths: list[list[int]],
    parents: list[int],
    rows: int,
    first: int,
    rng: np.random.Generator,
) -> Shard:
    new = NewQuestions(
        texts=[f"question {first + i}?" for i in range(len(paths))],
        paths=paths,
        parents=np.array(parents, np.int64),
        tokens=np.arange(rows - len(parents), rows),
        hidden_states=features(rng, len(parents), spec.text_dim, spec),
    )
    return question_shard(spec, new)


def split_table(
    rows: range, per_image: int, distinct: int, answers: int, rng: np.random.Generator
) -> SplitTable:
    """Ask about each picture; its ten answers are one class at least three times, else another."""
    count = len(rows) * per_image
    first = rows.start * per_image
    names = [f"answer {i}" for i in range(answers)]
    majority, other = rng.integers(0, answers, (2, count))
    agreeing = rng.integers(3, ANNOTATORS + 1, count)
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    return SplitTable(
        question_ids=list(range(first, first + count)),
        image_rows=np.repeat(np.arange(rows.start, rows.stop), per_image),
        question_rows=rng.integers(0, distinct, count),
        answers=[
            (names[a],) * n + (names[b],) * (ANNOTATORS - n)
            for a, b, n in zip(majority, other, agreeing, strict=True)
        ],
        question_types=[question for question, _ in kinds],
        answer_types=[answer for _, answer in kinds],
    )


def photograph(rng: np.random.Generator, noise: float = NOISE) -> bytes:
    """Return a JPEG of smooth colours with a camera's noise."""
    smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    pixels = np.asarray(smooth.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    noisy = pixels + rng.normal(0, noise, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
