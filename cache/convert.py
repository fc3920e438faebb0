"""The rows of one cache in another that stores them in fewer bytes, a shard at a time.

    float32 ── float16      rounded
    float32 ── int8         the bytes that an extraction into int8 gives
    float16 ── int8         rounded twice

Each row is compared with its digest before it is converted. Shards are laid aside and adopted as in
an extraction (aside.py), so that a conversion that was killed goes on where it was, and ends in the
same bytes. Splits and failures are written once all rows are there.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from frozen_vqa.cache.aside import chunk_key, laid_aside, lay_aside
from frozen_vqa.cache.errors import CacheDamagedError, CacheError, CacheMismatchError, remedy
from frozen_vqa.cache.files import row_digest
from frozen_vqa.cache.hdf5 import Hdf5File, require_offsets
from frozen_vqa.cache.manifest import ShardKind, ShardRecord
from frozen_vqa.cache.opening import open_shard
from frozen_vqa.cache.quantise import quantise
from frozen_vqa.cache.reader import FeatureCache
from frozen_vqa.cache.shards import (
    NAMES,
    THUMBNAIL,
    NewImages,
    NewQuestions,
    Shard,
    image_shard,
    question_shard,
)
from frozen_vqa.cache.spec import SCALE_DTYPE, CacheSpec
from frozen_vqa.cache.writer import CacheWriter

NARROWER = {"float32": ("float16", "int8"), "float16": ("int8",), "int8": ()}
KINDS: tuple[ShardKind, ...] = ("images", "questions")


def converted_spec(source: FeatureCache, dtype: str) -> CacheSpec:
    """Return what a cache converted to `dtype` holds.

    Raises:
        CacheError: unless that stores numbers in fewer bytes.
    """
    found = source.spec.dtype
    if dtype not in NARROWER[found]:
        ways = [f"{wide} to {' or '.join(narrow)}" for wide, narrow in NARROWER.items() if narrow]
        raise CacheError(
            f"{source.directory}: its features are stored as {found} and cannot become {dtype}; "
            f"what can be converted is {', '.join(ways)}. Anything else only the encoders can "
            f"give: run extract-features with --dtype {dtype} and another --cache."
        )
    return replace(source.spec, dtype=dtype)


def shards_left(source: FeatureCache, writer: CacheWriter) -> list[tuple[ShardKind, ShardRecord]]:
    """Return the shards that are still to be converted, in their order.

    Raises:
        CacheMismatchError: if the writer's cache does not begin with the rows of the source.
    """
    left: list[tuple[ShardKind, ShardRecord]] = []
    for kind in KINDS:
        theirs, ours = source.manifest.shards(kind), writer.manifest.shards(kind)
        if list(map(_rows_of, ours)) != list(map(_rows_of, theirs[: len(ours)])):
            raise CacheMismatchError(
                f"{writer.directory}: it holds other {kind} than {source.directory}, so the one "
                f"cannot be converted into the other. Give another --cache."
            )
        left += [(kind, record) for record in theirs[len(ours) :]]
    return left


def _rows_of(record: ShardRecord) -> tuple[object, ...]:
    """Return what a shard has in common with the one that it was converted from."""
    return record.rows, record.prefixes, record.names, record.origin


def convert_shard(
    source: FeatureCache, writer: CacheWriter, kind: ShardKind, record: ShardRecord
) -> None:
    """Convert the next shard.

    Args:
        source: Whose shard it is.
        writer: Of the new cache.
        kind: Of the shard.
        record: Of the shard.

    Raises:
        CacheDamagedError: if a row is not what was written.
        CacheError: if a number does not fit the new dtype, or the disk is full.
    """
    key = chunk_key(writer.manifest.spec, record.origin, ["converted", record.xxh3])
    if laid_aside(writer.directory, kind, key) is None:
        shard = _converted(source, writer.manifest.spec, kind, record)
        lay_aside(writer.directory, key, shard, kind=kind)
    writer.adopt(kind, [key])


def copy_splits(source: FeatureCache, writer: CacheWriter) -> None:
    """Give the new cache the splits and failures of the source; all its rows have to be there."""
    failures = source.manifest.failures
    pictures = [failure for failure in failures if not failure.split]
    if pictures != [failure for failure in writer.manifest.failures if not failure.split]:
        listed = [failure.to_json() for failure in pictures]
        key = chunk_key(writer.manifest.spec, {}, ["failures", *listed])
        lay_aside(writer.directory, key, None, kind="images", failures=pictures)
        writer.adopt("images", [key])
    for name, record in source.manifest.splits.items():
        ours = [failure for failure in failures if failure.split == name]
        there = [failure for failure in writer.manifest.failures if failure.split == name]
        stored = writer.manifest.splits.get(name)
        if stored and stored == replace(record, file=stored.file) and ours == there:
            continue
        writer.set_split(
            name,
            source.split(name),
            left_out=record.left_out,
            failures=ours,
            tokens=record.tokens,
            origin=record.origin,
        )


def _converted(
    source: FeatureCache, spec: CacheSpec, kind: ShardKind, record: ShardRecord
) -> Shard:
    file = open_shard(source.directory, kind, record)
    names = file.texts(NAMES[kind])
    if len(names) != record.rows:
        raise CacheDamagedError(f"{file.path}: it does not hold {record.rows:,} {kind}")
    with np.errstate(over="ignore"):  # what is too large is refused when it is to be stored
        if kind == "images":
            return image_shard(spec, _images(source, file, names, spec), origin=record.origin)
        new = _questions(source, file, names, spec, prefixes=record.prefixes)
        return question_shard(spec, new, origin=record.origin)


def _images(source: FeatureCache, file: Hdf5File, ids: list[str], spec: CacheSpec) -> NewImages:
    shape = (len(ids), spec.patches, spec.vision_dim)
    patches = np.empty(shape, spec.image_dtype)
    scales = np.empty(shape[:2], SCALE_DTYPE) if spec.quantised else None
    for row, numbers in enumerate(_checked(source, file, "patch_embeddings", shape)):
        if scales is None:
            patches[row] = numbers
        else:
            patches[row], scales[row] = quantise(numbers)
    cls = np.empty((len(ids), spec.vision_dim), spec.state_dtype)
    for row, numbers in enumerate(_checked(source, file, "cls", cls.shape)):
        cls[row] = numbers
    thumbnails = file.column("thumbnail", np.uint8)
    if len(thumbnails) != len(ids) * THUMBNAIL:
        raise CacheDamagedError(f"{file.path}: it does not hold {len(ids):,} thumbnails")
    return NewImages(ids, thumbnails.reshape(-1, THUMBNAIL), patches, cls, scales)


def _questions(
    source: FeatureCache, file: Hdf5File, texts: list[str], spec: CacheSpec, *, prefixes: int
) -> NewQuestions:
    states = np.empty((prefixes, spec.text_dim), spec.state_dtype)
    for row, numbers in enumerate(_checked(source, file, "hidden_states", states.shape)):
        states[row] = numbers
    path_rows, offsets = file.column("path_rows"), file.column("path_offsets")
    parents, tokens = file.column("prefix_parent"), file.column("prefix_token")
    require_offsets(offsets, len(path_rows), f"{file.path}: paths")
    if (len(offsets) - 1, len(parents), len(tokens)) != (len(texts), prefixes, prefixes):
        raise CacheDamagedError(f"{file.path}: its columns do not fit together")
    paths = [path.tolist() for path in np.split(path_rows, offsets[1:-1])] if texts else []
    return NewQuestions(texts, paths, parents, tokens, states)


def _checked(
    source: FeatureCache, file: Hdf5File, feature: str, shape: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """Yield copies of the rows of a feature, each compared with its digest."""
    spec = source.spec
    dtype = spec.image_dtype if feature == "patch_embeddings" else spec.state_dtype
    rows = file.array(feature, shape, dtype)
    digests = file.array(f"{feature}_xxh3", shape[:1], np.dtype(np.uint64))
    for row, digest in enumerate(digests):
        numbers = rows[row].copy()  # what was checked is what is used
        if row_digest(numbers) != digest:
            raise CacheDamagedError(
                f"{file.path}: row {row} differs from its digest, so it is not what was written. "
                f"{remedy(source.directory)}"
            )
        yield numbers
