"""One shard as bytes: features with a digest for each row, and what they belong to.

    images/00000.h5      patch_embeddings, cls, image_id, thumbnail: one row per picture;
                         in an int8 cache patch_scales as well
    questions/00000.h5   hidden_states, prefix_parent, prefix_token: one row per distinct prefix;
                         question, path_rows, path_offsets: one row per distinct question

The same features give the same bytes. Nothing here touches a disk.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.files import digest, row_digests
from frozen_vqa.cache.hdf5 import Hdf5File, column_datasets, hdf5_bytes, text_datasets
from frozen_vqa.cache.manifest import ShardKind, ShardRecord
from frozen_vqa.cache.quantise import LARGEST
from frozen_vqa.cache.spec import SCALE_DTYPE, CacheSpec, Json

FEATURES: dict[ShardKind, tuple[str, ...]] = {
    "images": ("patch_embeddings", "cls"),
    "questions": ("hidden_states",),
}
"""The datasets whose rows are checked one by one; all else in a shard is checked as a whole."""

NAMES: dict[ShardKind, str] = {"images": "image_id", "questions": "question"}
"""The column that says what each row of a shard is."""

THUMBNAIL = 64
"""Grey values that are kept of a picture, whatever they stand for."""


@dataclass(frozen=True)
class NewImages:
    """Pictures to be added.

    Attributes:
        image_ids: One per row.
        thumbnails: (rows, THUMBNAIL) uint8, a few grey values of each picture. Another picture
            under a known id is told by them, whatever decoded it.
        patch_embeddings: (rows, patches, vision_dim) in the image dtype of the cache.
        cls: (rows, vision_dim) in the state dtype of the cache.
        patch_scales: (rows, patches) float16 in an int8 cache, else None; from `quantise`.
    """

    image_ids: Sequence[str]
    thumbnails: np.ndarray
    patch_embeddings: np.ndarray
    cls: np.ndarray
    patch_scales: np.ndarray | None = None


@dataclass(frozen=True)
class NewQuestions:
    """Distinct questions to be added, with the prefixes that no earlier row holds.

    Attributes:
        texts: The questions.
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


@dataclass(frozen=True)
class Shard:
    """A shard ready to be written.

    Attributes:
        kind: Of what it holds.
        names: Image ids or question texts, by row.
        data: Its HDF5 file.
        record: What the manifest is to say of it; the name of the file is not yet known.
    """

    kind: ShardKind
    names: Sequence[str]
    data: bytes
    record: ShardRecord


def image_shard(
    spec: CacheSpec, new: NewImages, *, origin: Mapping[str, Json] | None = None
) -> Shard:
    """Return pictures as a shard.

    Args:
        spec: Of the cache.
        new: The pictures.
        origin: Where they came from.

    Raises:
        CacheError: if a number is not finite.
    """
    rows = len(new.image_ids)
    shape = (rows, spec.patches, spec.vision_dim)
    _require_shape(new.patch_embeddings, shape, spec.image_dtype)
    _require_shape(new.cls, (rows, spec.vision_dim), spec.state_dtype)
    if (new.patch_scales is None) == spec.quantised:
        raise ValueError("scales belong to the patch embeddings of an int8 cache, and to no other")
    if new.thumbnails.shape != (rows, THUMBNAIL) or new.thumbnails.dtype != np.uint8:
        raise ValueError(f"got {new.thumbnails.dtype} {new.thumbnails.shape} thumbnails")
    places = [f"image {image_id!r} (row {row})" for row, image_id in enumerate(new.image_ids)]
    model = f"{spec.vision.get('model')}, last layer"
    patches, scales = new.patch_embeddings, {}
    if new.patch_scales is not None:
        _require_shape(new.patch_scales, shape[:2], SCALE_DTYPE)
        scales = {"patch_scales": new.patch_scales}
        patches = LARGEST * new.patch_scales.astype(np.float32)  # of each patch its largest number
    largest = max(
        _largest(patches, places, f"{model}: patch embeddings of", dtype=spec.image_dtype),
        _largest(new.cls, places, f"{model}: CLS vector of"),
    )
    datasets = {
        "patch_embeddings": new.patch_embeddings,
        "patch_embeddings_xxh3": row_digests(new.patch_embeddings),
        **scales,
        "cls": new.cls,
        "cls_xxh3": row_digests(new.cls),
        **column_datasets("thumbnail", new.thumbnails.reshape(-1)),
        **text_datasets("image_id", new.image_ids),
    }
    return _shard("images", new.image_ids, datasets, 0, largest, origin)


def question_shard(
    spec: CacheSpec, new: NewQuestions, *, origin: Mapping[str, Json] | None = None
) -> Shard:
    """Return distinct questions as a shard.

    Args:
        spec: Of the cache.
        new: The questions.
        origin: Where they came from.

    Raises:
        CacheError: if a number is not finite.
    """
    prefixes = len(new.parents)
    _require_shape(new.hidden_states, (prefixes, spec.text_dim), spec.state_dtype)
    what = f"{spec.text.get('model')}, layer {spec.text.get('layer')}: hidden state of"
    largest = _largest(new.hidden_states, _Prefixes(new), what)
    offsets = np.zeros(len(new.paths) + 1, dtype=np.int64)
    np.cumsum([len(path) for path in new.paths], out=offsets[1:])
    datasets = {
        "hidden_states": new.hidden_states,
        "hidden_states_xxh3": row_digests(new.hidden_states),
        **column_datasets("prefix_parent", np.asarray(new.parents, dtype=np.int64)),
        **column_datasets("prefix_token", np.asarray(new.tokens, dtype=np.int64)),
        **column_datasets(
            "path_rows", np.array([row for path in new.paths for row in path], dtype=np.int64)
        ),
        **column_datasets("path_offsets", offsets),
        **text_datasets("question", new.texts),
    }
    return _shard("questions", new.texts, datasets, prefixes, largest, origin)


def names_digest(names: Sequence[str]) -> str:
    """Return a digest of image ids or question texts in their order."""
    return digest(json.dumps(list(names)).encode())


def _shard(
    kind: ShardKind,
    names: Sequence[str],
    datasets: dict[str, np.ndarray],
    prefixes: int,
    largest: float,
    origin: Mapping[str, Json] | None,
) -> Shard:
    data = hdf5_bytes(datasets)
    record = ShardRecord(
        file="",
        rows=len(names),
        bytes=len(data),
        xxh3=digest(data),
        structure=Hdf5File(Path(kind), data).structure_digest(FEATURES[kind]),
        names=names_digest(names),
        prefixes=prefixes,
        largest=largest,
        origin=dict(origin or {}),
    )
    return Shard(kind, list(names), data, record)


def _require_shape(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"got {array.dtype} {array.shape}, this cache needs {dtype} {shape}")


class _Prefixes:
    """Names the new prefixes of questions, for the rare message that needs it."""

    def __init__(self, new: NewQuestions) -> None:
        self._new = new

    def __getitem__(self, row: int) -> str:
        # The new rows are the last ones of the cache.
        last = max((max(path) for path in self._new.paths if path), default=0)
        wanted = last + 1 - len(self._new.parents) + row
        for text, path in zip(self._new.texts, self._new.paths, strict=True):
            if wanted in path:
                return f"token {list(path).index(wanted)} of {text!r} (row {row})"
        return f"row {row}"


def _largest(
    rows: np.ndarray,
    places: Sequence[str] | _Prefixes,
    what: str,
    *,
    dtype: np.dtype | None = None,
) -> float:
    """Return the largest absolute value, or say which row is not finite."""
    finite = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    if not finite.all():
        bad = [places[int(i)] for i in np.flatnonzero(~finite)[:5]]
        raise CacheError(
            f"{what} {', '.join(bad)}: not finite in {dtype or rows.dtype}; nothing was written. "
            f"Values beyond 65,504 do not fit float16: extract with "
            f"--dtype float32; if that fails as well, the model itself gives them."
        )
    return float(np.abs(rows).max(initial=0))
