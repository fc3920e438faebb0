"""cache.json: which encoders made the cache, and which files belong to it.

A file exists for a reader only when the manifest names it, and the manifest is written last. It
has a digest of itself and of every file, so that it is the one root of trust: a reader trusts
only bytes that it has compared with a digest that leads here. A second copy lies beside it, because
a lost manifest makes a hundred gigabytes worthless.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from frozen_vqa.cache.errors import CacheDamagedError, CacheError, made_by, quoted
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.finite import LARGEST as LARGEST_NUMBER
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.names import LONGEST_NAME, require_split_name
from frozen_vqa.cache.typed_json import Count, Json, decode, finite_json

FORMAT, SINGLE = 6, 5
"""What cache.json says: `SINGLE` if patch embeddings and hidden states have one part each, as older
versions read them, else `FORMAT`."""
NAME = "cache.json"
COPY = "cache.copy.json"
FAILURES = "failures.jsonl"
LOG = "extractions.jsonl"
SMALL_FILES = frozenset({NAME, COPY, FAILURES, LOG})
SHARD_FILE = re.compile(r"[0-9]{5,}(~[0-9]+)?\.h5")
SURROGATE = re.compile("[\ud800-\udfff]")
SPLIT_FILE = re.compile(r"[^/\x00-\x1f\x7f]+\.h5")
FOLDERS = ("images", "questions", "splits")

LARGEST = 64 << 20
"""Bytes of cache.json that are read; the manifest of a thousand shards has one or two million."""

MOST_SPLITS, MOST_SHARDS = 1_000, 100_000

ShardKind = Literal["images", "questions"]
KINDS: tuple[ShardKind, ...] = ("images", "questions")

Id = int | str


class Origin(TypedDict, total=False):
    """What stage one notes of where rows came from, and what later commands read of it.

    `without_picture` holds question and picture of each question whose picture cannot be read;
    `metric` is the one that a data set is scored by. `drift` is the relative L2 distance of patch
    embeddings from those that float32 gives, where the encoder computed in another type; `drifts`
    has that of each of several encoders by its name.
    """

    dataset: str
    columns: Mapping[str, str]
    splits: Sequence[str]
    digests: Mapping[str, str]
    limit: Count | None
    batch_size: Count | None
    drift: Annotated[float, (0, LARGEST_NUMBER)]
    drifts: Mapping[str, Annotated[float, (0, LARGEST_NUMBER)]]
    images: str
    annotations: str
    metric: str
    without_picture: Sequence[tuple[Id, str]]


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of the cache; its rows are pictures, distinct questions, or questions of a split.

    `datasets` says where the numbers of each of its datasets lie (`hdf5.Extent` as text), which is
    checked when the file is opened.
    """

    file: str
    rows: Count
    bytes: Count
    xxh3: str
    datasets: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ShardRecord(FileRecord):
    """One shard of features.

    Attributes:
        structure: Digest of all bytes but the rows of features. It covers the digests of the rows,
            so that a row needs to be checked only when it is read.
        names: Digest of image ids or question texts in their order. A rebuilt shard must hold the
            same ones, because the splits point at its rows.
        prefixes: Distinct prefixes; 0 for pictures.
        largest: Largest absolute feature value.
        origin: How to make it again: where its rows came from, as stage one named it.
    """

    structure: str
    names: str
    prefixes: Count
    largest: Annotated[float, (0, LARGEST_NUMBER)]
    origin: Annotated[Mapping[str, Any], Origin]


@dataclass(frozen=True, kw_only=True)
class SplitRecord(FileRecord):
    """The table of one split, without the `left_out` questions that the data set has as well.

    Repeated questions count each time among its `tokens`. Stage one wrote the `origin`.
    """

    left_out: Count
    tokens: Count
    origin: Annotated[Mapping[str, Any], Origin]

    @property
    def metric(self) -> str | None:
        """The metric of its data set, such as "vizwiz"; None for data of one's own."""
        return self.origin.get("metric")


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read (`split` is "" then), or an unusable question.

    `id` is None for a question without one; `where` is a file, line or row.
    """

    id: Id | None
    where: str
    reason: str
    split: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return a line of failures.jsonl."""
        kind = {"kind": "question", "split": self.split} if self.split else {"kind": "image"}
        return {**kind, "id": self.id, "where": self.where, "reason": self.reason}


@dataclass(frozen=True)
class Manifest:
    """The whole of cache.json."""

    spec: CacheSpec
    images: tuple[ShardRecord, ...] = ()
    questions: tuple[ShardRecord, ...] = ()
    splits: Mapping[str, SplitRecord] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @property
    def image_rows(self) -> int:
        """Pictures in the cache."""
        return sum(record.rows for record in self.images)

    @property
    def question_rows(self) -> int:
        """Distinct questions in the cache."""
        return sum(record.rows for record in self.questions)

    @property
    def prefix_rows(self) -> int:
        """Hidden states in the cache."""
        return sum(record.prefixes for record in self.questions)

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file but the manifest itself."""
        return (*self.images, *self.questions, *self.splits.values())

    @property
    def bytes(self) -> int:
        """Bytes of all shards and splits."""
        return sum(record.bytes for record in self.files)

    def shards(self, kind: ShardKind) -> tuple[ShardRecord, ...]:
        """Return the shards of one kind."""
        return self.images if kind == "images" else self.questions

    def with_shard(self, kind: ShardKind, index: int, record: ShardRecord) -> "Manifest":
        """Return a manifest in which this is the shard at `index`; one past the end appends."""
        shards = self.shards(kind)
        shards = (*shards[:index], record, *shards[index + 1 :])
        return replace(self, images=shards) if kind == "images" else replace(self, questions=shards)

    def to_json(self) -> str:
        """Return the text of cache.json; raise `CacheError` for a number that no reader takes."""
        single = not (self.spec.more_vision or self.spec.more_text)
        body = {"format": SINGLE if single else FORMAT, **vars(self), "spec": self.spec.to_json()}
        body["xxh3"] = _digest_body(body)
        try:
            # One line a field: json's own indentation is slow, and each shard writes a manifest.
            lines = [
                f'"{name}": {json.dumps(value, default=vars, allow_nan=False)}'
                for name, value in body.items()
            ]
        except ValueError as error:
            raise CacheError(
                f"{NAME}: a setting of an encoder is not finite ({error}), and a cache records "
                f"only finite ones. Give another model, or another revision of it."
            ) from error
        text = "{\n" + ",\n".join(lines) + "\n}"
        require_few(len(self.splits), len(self.images) + len(self.questions))
        if len(text) > LARGEST:
            raise CacheError(
                f"{NAME} would have {len(text):,} bytes, the limit is {LARGEST:,}; it lists "
                f"{len(self.failures):,} pictures and questions that cannot be used. Leave them "
                f"out of the data set, or make another cache for the rest."
            )
        return text


def small_files(manifest: Manifest) -> dict[str, bytes]:
    """Return the files that lie in the cache's own folder, in the order of writing them.

    No file stands for an empty one. The last is for people and their scripts.
    """
    data = manifest.to_json().encode()
    lines = [json.dumps(f.to_json(), ensure_ascii=False) + "\n" for f in manifest.failures]
    # A path need not be UTF-8, and JSON must be; its other bytes are spelled out.
    text = SURROGATE.sub(lambda half: f"\\\\u{ord(half[0]):04x}", "".join(lines))
    return {NAME: data, COPY: data, FAILURES: text.encode()}


def parse_manifest(path: Path, data: bytes) -> Manifest:
    """Return the content of a cache.json; messages name its `path`.

    Raise `CacheError` if it has another format version, and `CacheDamagedError` if its bytes are
    not those that were written.
    """
    try:
        body = finite_json(data.decode())
        if not isinstance(body, dict):
            raise ValueError(f"found {type(body).__name__}; an object is needed")
        found, version = body.pop("xxh3"), body.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged_manifest(path, f"not a cache manifest ({error})") from error
    if version not in (FORMAT, SINGLE):
        raise CacheError(
            f"{path}: the cache has format {version!r:.40}, but this version of frozen-vqa reads "
            f"formats {SINGLE} and {FORMAT}. {made_by(version, FORMAT)} Or run the "
            f"extract-features command that made it again, with another --cache."
        )
    try:
        if found != _digest_body({"format": version, **body}):
            raise damaged_manifest(path, "its content has another digest, so it was changed")
        return _from_json(body)
    except CacheDamagedError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, CacheError) as error:
        raise damaged_manifest(path, f"not a cache manifest ({error})") from error


def damaged_manifest(path: Path, what: str) -> CacheDamagedError:
    """Return the error for a cache.json, which says how to bring it back."""
    copy = path.with_name(COPY)
    return CacheDamagedError(
        f"{path}: {what:.300}. Its copy may be whole: `cp {quoted(copy)} {quoted(path)}`, then "
        f"`frozen-vqa verify-cache {quoted(path.parent)}`"
    )


def _digest_body(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), default=vars)
    return digest(text.encode())


def _from_json(body: object) -> Manifest:
    manifest = decode(Manifest, body)
    require_few(len(manifest.splits), len(manifest.images) + len(manifest.questions))
    for name in manifest.splits:
        require_split_name(name)
    groups = (manifest.images, manifest.questions, manifest.splits.values())
    for folder, records in zip(FOLDERS, groups, strict=True):
        for record in records:
            _require_possible(manifest.spec, folder, record)
    return manifest


def require_few(splits: int, shards: int) -> None:
    """Raise `CacheError` for more splits or shards than commands can go through in time."""
    if splits > MOST_SPLITS or shards > MOST_SHARDS:
        raise CacheError(
            f"{splits:,} splits and {shards:,} shards; a cache has at most {MOST_SPLITS:,} and "
            f"{MOST_SHARDS:,}. Make another cache for the rest."
        )


def _require_possible(spec: CacheSpec, folder: str, record: FileRecord) -> None:
    """Refuse a record that points elsewhere, or says that its file holds more than it can."""
    place, _, name = record.file.partition("/")
    pattern = SPLIT_FILE if folder == "splits" else SHARD_FILE
    if place != folder or not pattern.fullmatch(name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"{record.file!r} is no file of a cache")
    least = record.rows * (spec.image_row_bytes if folder == "images" else 1)
    if isinstance(record, ShardRecord):
        least = max(least, record.prefixes * spec.prefix_row_bytes)
    if least > record.bytes:
        raise ValueError(f"{record.file}: {record.bytes:,} bytes cannot hold {least:,}")
