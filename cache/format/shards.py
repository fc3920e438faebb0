"""One shard as bytes: features with a digest for each row, and their pictures or questions.

    images/00000.h5      patch_embeddings, cls, image_id, thumbnail, content: one row per picture;
                         in an int8 cache patch_scales as well
    questions/00000.h5   hidden_states, prefix_parent, prefix_token: one row per distinct prefix;
                         question, path_rows, path_offsets: one row per distinct question

The same features give the same bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache.errors import CacheDamagedError, CacheError
from frozen_vqa.cache.format.bfloat16 import dtype_name
from frozen_vqa.cache.format.digests import Buffer, digest, row_digests
from frozen_vqa.cache.format.finite import LARGEST, largest_by_row
from frozen_vqa.cache.format.hdf5 import (
    Hdf5File,
    build_hdf5,
    column_datasets,
    read_extents,
    require_offsets,
    running_total,
    structure_digest,
    text_datasets,
)
from frozen_vqa.cache.format.manifest import ShardKind, ShardRecord
from frozen_vqa.cache.format.parts import LAST, spans
from frozen_vqa.cache.format.quantise import LARGEST_INTEGER
from frozen_vqa.cache.format.spec import SCALE_DTYPE, CacheSpec
from frozen_vqa.cache.typed_json import Json

FEATURES: dict[ShardKind, tuple[str, ...]] = {
    "images": ("patch_embeddings", "cls"),
    "questions": ("hidden_states",),
}
"""Datasets whose rows are checked one by one; the rest of a shard is checked as a whole."""

NAMES: dict[ShardKind, str] = {"images": "image_id", "questions": "question"}
"""The column that says what each row of a shard is."""

NARROW = ("float16", "int8")
TOO_LARGE = (
    "Values beyond 65,504 do not fit float16: give --dtype bfloat16, which holds them in as many "
    "bytes, or --dtype float32, and another --cache. If that fails as well, the model itself gives "
    "such values."
)
STRANGE_MODEL = (
    "The model itself gives such values: give --compute-dtype float32, or another copy of the "
    "model, and another --cache."
)

THUMBNAIL = 64
"""Grey values that are kept of each picture."""

CONTENT = 24
"""Bytes that tell what a picture was read from: its size, 8 bytes, and its xxh3 digest, 16."""


@dataclass(frozen=True)
class NewImages:
    """Pictures to add.

    Attributes:
        thumbnails: (rows, THUMBNAIL) uint8, a few grey values of each picture. They reveal another
            picture under a known id, whichever decoder read it.
        contents: (rows, CONTENT) uint8 from `describe_content`; None for zeros, which say nothing.
        patch_embeddings: (rows, patches, vision_dim) in the image dtype of the cache.
        cls: (rows, vision_dim) in the state dtype of the cache.
        patch_scales: (rows, patches) float16 from `quantise_parts` in an int8 cache, else None; of
            several parts (rows, patches, parts).
    """

    image_ids: Sequence[str]
    thumbnails: np.ndarray
    patch_embeddings: np.ndarray
    cls: np.ndarray
    patch_scales: np.ndarray | None = None
    contents: np.ndarray | None = None


@dataclass(frozen=True)
class NewQuestions:
    """Distinct questions to add, with the prefixes that no earlier row holds.

    Attributes:
        paths: Per question the cache-wide rows of its prefixes, first token first.
        parents: (prefixes,) row of the prefix that is one token shorter; -1 at the first token.
        tokens: (prefixes,) last token of each prefix.
        hidden_states: (prefixes, text_dim) in the state dtype of the cache.
    """

    texts: Sequence[str]
    paths: Sequence[Sequence[int]]
    parents: np.ndarray
    tokens: np.ndarray
    hidden_states: np.ndarray

    def describe_row(self, row: int) -> str:
        """Name a new prefix by a question that has it."""
        # The new rows are the last ones of the cache.
        last = max((max(path) for path in self.paths if path), default=0)
        wanted = last + 1 - len(self.parents) + row
        for text, path in zip(self.texts, self.paths, strict=True):
            if wanted in path:
                return f"token {list(path).index(wanted)} of {text!r} (row {row})"
        return f"row {row}"


@dataclass(frozen=True)
class Shard:
    """A shard ready to be written: its `names` are by row, and its `record` names no file yet.

    Its `pieces` follow one another in the file; the rows among them are those that were given.
    """

    kind: ShardKind
    names: Sequence[str]
    pieces: Sequence[Buffer]
    record: ShardRecord


def image_shard(
    spec: CacheSpec, new: NewImages, *, origin: Mapping[str, Json] | None = None
) -> Shard:
    """Return pictures from `origin` as a shard; raise `CacheError` if a number is not finite."""
    rows = len(new.image_ids)
    shape = (rows, spec.patches, spec.vision_dim)
    _require_shape(new.patch_embeddings, shape, spec.image_dtype)
    _require_shape(new.cls, (rows, spec.vision_dim), spec.state_dtype)
    _require_shape(new.thumbnails, (rows, THUMBNAIL), np.dtype(np.uint8))
    if (new.patch_scales is None) == spec.quantised:
        raise ValueError("patch embeddings need scales in an int8 cache, and only there")
    contents = np.zeros((rows, CONTENT), np.uint8) if new.contents is None else new.contents
    _require_shape(contents, (rows, CONTENT), np.dtype(np.uint8))
    scales = {}
    if new.patch_scales is not None:
        _require_shape(new.patch_scales, (rows, *spec.scales), SCALE_DTYPE)
        scales = {"patch_scales": new.patch_scales}

    def describe_row(row: int) -> str:
        return f"image {new.image_ids[row]!r} (row {row})"

    largest, parts = 0.0, spec.vision_parts
    for i, (part, at) in enumerate(zip(parts, spans(parts), strict=True)):
        patches = new.patch_embeddings[..., at]
        if new.patch_scales is not None:  # the largest number of each patch
            of_part = new.patch_scales if not spec.more_vision else new.patch_scales[..., i]
            patches = LARGEST_INTEGER * of_part.astype(np.float32)
        model = f"{part.model}, {'last layer' if part.layer == LAST else f'layer {part.layer}'}"
        largest = max(
            largest,
            _largest(patches, describe_row, f"{model}: patch embeddings of", spec.image_dtype),
            _largest(new.cls[:, at], describe_row, f"{model}: CLS vector of", spec.state_dtype),
        )
    datasets = {
        "patch_embeddings": new.patch_embeddings,
        "patch_embeddings_xxh3": row_digests(new.patch_embeddings),
        **scales,
        "cls": new.cls,
        "cls_xxh3": row_digests(new.cls),
        **column_datasets("thumbnail", new.thumbnails.reshape(-1)),
        **column_datasets("content", contents.reshape(-1)),
        **text_datasets("image_id", new.image_ids),
    }
    return _make_shard("images", new.image_ids, datasets, 0, largest, origin)


def question_shard(
    spec: CacheSpec, new: NewQuestions, *, origin: Mapping[str, Json] | None = None
) -> Shard:
    """Return questions from `origin` as a shard; raise `CacheError` if a number is not finite."""
    prefixes = len(new.parents)
    _require_shape(new.hidden_states, (prefixes, spec.text_dim), spec.state_dtype)
    largest = max(
        _largest(
            new.hidden_states[:, at],
            new.describe_row,
            f"{part.model}, layer {part.settings.get('layer')}: hidden state of",
            spec.state_dtype,
        )
        for part, at in zip(spec.text_parts, spans(spec.text_parts), strict=True)
    )
    path_rows = np.array([row for path in new.paths for row in path], dtype=np.int64)
    datasets = {
        "hidden_states": new.hidden_states,
        "hidden_states_xxh3": row_digests(new.hidden_states),
        **column_datasets("prefix_parent", np.asarray(new.parents, dtype=np.int64)),
        **column_datasets("prefix_token", np.asarray(new.tokens, dtype=np.int64)),
        **column_datasets("path_rows", path_rows),
        **column_datasets("path_offsets", running_total([len(path) for path in new.paths])),
        **text_datasets("question", new.texts),
    }
    return _make_shard("questions", new.texts, datasets, prefixes, largest, origin)


def read_paths(file: Hdf5File, rows: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the texts, path rows and path offsets of a question shard; arrays are views.

    Raise `CacheDamagedError` unless they fit together and belong to this number of questions.
    """
    texts = file.texts(NAMES["questions"])
    path_rows, offsets = file.column("path_rows"), file.column("path_offsets")
    require_offsets(offsets, len(path_rows), f"{file.path}: paths")
    if not len(texts) == len(offsets) - 1 == rows:
        raise CacheDamagedError(f"{file.path}: it does not hold {rows:,} questions")
    return texts, path_rows, offsets


def describe_content(data: bytes) -> np.ndarray:
    """Return what a cache keeps of the bytes of a picture: (CONTENT,) uint8."""
    described = len(data).to_bytes(8, "little") + bytes.fromhex(digest(data))
    return np.frombuffer(described, np.uint8)


def sizes_and_digests(contents: np.ndarray) -> list[tuple[int, str]]:
    """Return what `describe_content` described: the sizes, 0 for nothing, and the digests."""
    sizes = np.ascontiguousarray(contents[:, :8]).view("<u8").reshape(-1).tolist()
    return [(size, row.tobytes().hex()) for size, row in zip(sizes, contents[:, 8:], strict=True)]


def read_pictures(file: Hdf5File, rows: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the ids, thumbnails and contents of an image shard; arrays are views.

    Raise `CacheDamagedError` unless they belong to this number of pictures.
    """
    ids, columns = file.texts(NAMES["images"]), []
    for name, width in (("thumbnail", THUMBNAIL), ("content", CONTENT)):
        columns.append(file.column(name, np.uint8))
        if not len(ids) == rows == len(columns[-1]) / width:
            raise CacheDamagedError(f"{file.path}: it does not hold {rows:,} images")
    thumbnails, contents = columns
    return ids, thumbnails.reshape(rows, THUMBNAIL), contents.reshape(rows, CONTENT)


def names_digest(names: Sequence[str]) -> str:
    """Return a digest of image ids or question texts in their order."""
    return digest(json.dumps(list(names)).encode())


def _make_shard(
    kind: ShardKind,
    names: Sequence[str],
    datasets: dict[str, np.ndarray],
    prefixes: int,
    largest: float,
    origin: Mapping[str, Json] | None,
) -> Shard:
    file = build_hdf5(datasets)
    extents = read_extents(file.datasets, file.nbytes, kind)
    record = ShardRecord(
        file="",
        rows=len(names),
        bytes=file.nbytes,
        xxh3=digest(*file.pieces),
        datasets=file.datasets,
        structure=structure_digest(file.pieces, extents, FEATURES[kind]),
        names=names_digest(names),
        prefixes=prefixes,
        largest=largest,
        origin=dict(origin or {}),
    )
    return Shard(kind, list(names), file.pieces, record)


def _require_shape(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"got {array.dtype} {array.shape}, this cache needs {dtype} {shape}")


def _largest(
    rows: np.ndarray, describe_row: Callable[[int], str], what: str, dtype: np.dtype
) -> float:
    """Return the largest absolute value, or say which rows are not finite in `dtype`."""
    largest = largest_by_row(rows)
    if len(unusable := np.flatnonzero(~(largest <= LARGEST))):
        bad = [describe_row(int(row)) for row in unusable[:5]]
        name = dtype_name(dtype)
        raise CacheError(
            f"{what} {', '.join(bad)}: not finite in {name}, so their shard was not written; all "
            f"shards before it are stored. {TOO_LARGE if name in NARROW else STRANGE_MODEL}"
        )
    return float(largest.max(initial=0))
