"""Copies the rows of one cache into another that stores them in fewer bytes, shard by shard.

    float32 ── float16, bfloat16    rounded
    float32 ── int8                 the bytes that an extraction into int8 gives
    float16, bfloat16 ── int8       rounded twice
    any ── the same or such a type, patches pooled

Each row is compared with its digest before it is converted. Shards are staged and adopted as in an
extraction (disk/staging.py), so that a killed conversion can continue, and ends in the same
bytes. Splits and failures are written once all rows are there.
"""

from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter

import numpy as np

from frozen_vqa.cache.disk.integrity import open_shard, require_whole
from frozen_vqa.cache.disk.staging import chunk_key, read_staged, stage_shard
from frozen_vqa.cache.errors import CacheDamagedError, CacheError, CacheMismatchError, damaged_row
from frozen_vqa.cache.format.bfloat16 import BFLOAT16, round_to_bfloat16, to_floats
from frozen_vqa.cache.format.digests import row_digest
from frozen_vqa.cache.format.hdf5 import Hdf5File
from frozen_vqa.cache.format.pool import pool_patches
from frozen_vqa.cache.format.quantise import dequantise, quantise_parts
from frozen_vqa.cache.format.records.files import KINDS, ShardKind, ShardRecord
from frozen_vqa.cache.format.shards import (
    NewImages,
    NewQuestions,
    Shard,
    image_shard,
    question_shard,
    read_paths,
    read_pictures,
)
from frozen_vqa.cache.format.spec import SCALE_DTYPE, CacheSpec
from frozen_vqa.cache.reader import FeatureCache
from frozen_vqa.cache.writer import CacheWriter

NARROWER = {
    "float32": ("float16", "bfloat16", "int8"),
    "float16": ("int8",),
    "bfloat16": ("int8",),
    "int8": (),
}

identify_rows = attrgetter("rows", "prefixes", "names", "origin")
"""Returns what a shard has in common with the one that it was converted from."""


def converted_spec(source: FeatureCache, dtype: str, pool: int = 1) -> CacheSpec:
    """Return the spec in `dtype` and pooled; raise `CacheError` unless that takes fewer bytes."""
    require_whole(source.directory, source.manifest)
    found = source.spec.dtype
    if dtype not in NARROWER[found] and not (dtype == found and pool > 1):
        ways = [f"{wide} to {' or '.join(narrow)}" for wide, narrow in NARROWER.items() if narrow]
        raise CacheError(
            f"{source.directory}: its features are stored as {found} and cannot become {dtype}. "
            f"A cache can be converted from {', from '.join(ways)}; only the encoders can give "
            f"anything else: run extract-features with --dtype {dtype} and another --cache."
        )
    try:
        return replace(source.spec.pooled(pool), dtype=dtype)
    except CacheError as error:
        raise CacheError(f"{source.directory}: {error}. Leave out --pool.") from None


def shards_left(source: FeatureCache, writer: CacheWriter) -> list[tuple[ShardKind, ShardRecord]]:
    """Return the shards that are still to be converted, in their order.

    Raise `CacheMismatchError` if the writer's cache does not begin with the rows of the source.
    """
    left: list[tuple[ShardKind, ShardRecord]] = []
    for kind in KINDS:
        theirs, ours = source.manifest.shards(kind), writer.manifest.shards(kind)
        if list(map(identify_rows, ours)) != list(map(identify_rows, theirs[: len(ours)])):
            raise CacheMismatchError(
                f"{writer.directory}: it holds other {kind} than {source.directory}, so the one "
                f"cannot be converted into the other. Give another --cache."
            )
        left += [(kind, record) for record in theirs[len(ours) :]]
    return left


def convert_shard(
    source: FeatureCache, writer: CacheWriter, kind: ShardKind, record: ShardRecord
) -> None:
    """Convert the next shard of `source` into the new cache.

    Raise `CacheDamagedError` if a row is not what was written, and `CacheError` if a number does
    not fit the new dtype, or the disk is full.
    """
    key = chunk_key(writer.manifest.spec, record.origin, ["converted", record.xxh3])
    if read_staged(writer.directory, kind, key) is None:
        shard = _convert(source, writer.manifest.spec, kind, record)
        stage_shard(writer.directory, key, shard, kind=kind)
    writer.adopt(kind, [key])


def copy_splits(source: FeatureCache, writer: CacheWriter) -> None:
    """Give the new cache the splits and failures of the source; all its rows have to be there."""
    failures, known = source.manifest.failures, writer.manifest.failures
    pictures = [failure for failure in failures if not failure.split]
    if pictures != [failure for failure in known if not failure.split]:
        listed = [failure.to_json() for failure in pictures]
        key = chunk_key(writer.manifest.spec, {}, ["failures", *listed])
        stage_shard(writer.directory, key, None, kind="images", failures=pictures)
        writer.adopt("images", [key])
    for name, record in source.manifest.splits.items():
        ours = [failure for failure in failures if failure.split == name]
        stored = writer.manifest.splits.get(name)
        same = stored and stored == replace(record, file=stored.file)
        if same and ours == [failure for failure in known if failure.split == name]:
            continue
        writer.set_split(
            name,
            source.split(name),
            left_out=record.left_out,
            failures=ours,
            tokens=record.tokens,
            origin=record.origin,
        )


def _convert(source: FeatureCache, spec: CacheSpec, kind: ShardKind, record: ShardRecord) -> Shard:
    file = open_shard(source.directory, kind, record)
    with np.errstate(over="ignore"):  # the new shard refuses numbers that are too large
        if kind == "images":
            new = _convert_images(source, file, record.rows, spec)
            return image_shard(spec, new, origin=record.origin)
        questions = _convert_questions(source, file, record, spec)
        return question_shard(spec, questions, origin=record.origin)


def _convert_images(source: FeatureCache, file: Hdf5File, rows: int, spec: CacheSpec) -> NewImages:
    ids, thumbnails, contents = read_pictures(file, rows)
    patches = np.empty((rows, spec.patches, spec.vision_dim), spec.image_dtype)
    scales = np.empty((rows, *spec.scales), SCALE_DTYPE) if spec.quantised else None
    pool = source.spec.grid[0] // spec.grid[0]
    for row, numbers in enumerate(_checked_patches(source, file, rows)):
        pooled = pool_patches(numbers, source.spec.grid, pool)
        if scales is None:
            patches[row] = _rounded(pooled, spec.image_dtype)
        else:
            patches[row], scales[row] = quantise_parts(pooled, spec.vision_dims)
    cls = _convert_rows(source, file, "cls", (rows, spec.vision_dim), spec)
    return NewImages(ids, thumbnails, patches, cls, scales, contents)


def _convert_questions(
    source: FeatureCache, file: Hdf5File, record: ShardRecord, spec: CacheSpec
) -> NewQuestions:
    texts, path_rows, offsets = read_paths(file, record.rows)
    parents, tokens = file.column("prefix_parent"), file.column("prefix_token")
    if not len(parents) == len(tokens) == record.prefixes:
        raise CacheDamagedError(f"{file.path}: it does not hold {record.prefixes:,} prefixes")
    states = _convert_rows(source, file, "hidden_states", (len(parents), spec.text_dim), spec)
    paths = [path.tolist() for path in np.split(path_rows, offsets[1:-1])] if texts else []
    return NewQuestions(texts, paths, parents, tokens, states)


def _checked_patches(source: FeatureCache, file: Hdf5File, rows: int) -> Iterator[np.ndarray]:
    """Return the patch embeddings of each picture: (patches, vision_dim) float32."""
    spec = source.spec
    shape = (rows, spec.patches, spec.vision_dim)
    checked = _checked_rows(source, file, "patch_embeddings", shape)
    if not spec.quantised:
        return (to_floats(numbers).astype(np.float32) for numbers in checked)
    of_scales = (rows, *spec.scales)  # checked with the structure
    each = zip(checked, file.array("patch_scales", of_scales, SCALE_DTYPE), strict=True)
    return (dequantise(numbers, scale, spec.vision_dims) for numbers, scale in each)


def _convert_rows(
    source: FeatureCache, file: Hdf5File, feature: str, shape: tuple[int, ...], spec: CacheSpec
) -> np.ndarray:
    """Return the rows of a feature in the dtype of the new cache."""
    checked = _checked_rows(source, file, feature, shape)
    converted = np.empty(shape, spec.state_dtype)
    for row, numbers in enumerate(checked):
        converted[row] = _rounded(to_floats(numbers), spec.state_dtype)
    return converted


def _rounded(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return floats in the dtype of the new cache."""
    return round_to_bfloat16(numbers) if dtype == BFLOAT16 else numbers.astype(dtype)


def _checked_rows(
    source: FeatureCache, file: Hdf5File, feature: str, shape: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """Return copies of the rows of a feature, each compared with its digest when it is read.

    The shape is compared at once, so that a caller may allocate that much.
    """
    rows, digests = file.rows(feature, shape, source.spec.feature_dtype(feature))

    def read(row: int) -> np.ndarray:
        numbers = rows[row].copy()  # the bytes that were checked are those that are used
        if row_digest(numbers) != digests[row]:
            raise damaged_row(file.path, row, source.directory)
        return numbers

    return map(read, range(len(rows)))
