"""cache.json: which encoders made the cache, and which files belong to it.

A file exists for a reader only when the manifest names it; the manifest is written last. It
carries a digest of itself and of every file, so that it is the one root of trust: whatever a
reader believes, it has compared with a digest that leads here. A second copy lies beside it, for
a manifest that is lost makes a hundred gigabytes worthless.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from frozen_vqa.cache.errors import CacheDamagedError, CacheError, quoted
from frozen_vqa.cache.files import digest, read_file
from frozen_vqa.cache.spec import CacheSpec, Json
from frozen_vqa.cache.typed_json import make_dataclass

FORMAT = 2
NAME = "cache.json"
COPY = "cache.copy.json"
FAILURES = "failures.jsonl"
LARGEST = 64 << 20
"""Bytes of cache.json that are read; a thousand shards have half a million."""
SHARD_FILE = re.compile(r"\d{5,}(~\d+)?\.h5")
SPLIT_FILE = re.compile(r"[^/\x00-\x1f\x7f]+\.h5")
FOLDERS = ("images", "questions", "splits")

ShardKind = Literal["images", "questions"]

Id = int | str


@dataclass(frozen=True)
class FileRecord:
    """One file of the cache.

    Attributes:
        file: Its name below the cache.
        rows: Pictures, distinct questions, or questions of a split.
        bytes: Its size.
        xxh3: 128-bit digest of all its bytes.
    """

    file: str
    rows: int
    bytes: int
    xxh3: str


@dataclass(frozen=True)
class ShardRecord(FileRecord):
    """One shard of features.

    Attributes:
        structure: Digest of all bytes but the rows of features. It pins the digests of the rows,
            so that a row needs to be checked only when it is read.
        names: Digest of image ids or question texts in their order: what a rebuilt shard must
            hold, for the splits point at its rows.
        prefixes: Distinct prefixes; 0 for pictures.
        largest: Largest absolute feature value.
        origin: Where its rows came from, as stage one named it; how to make it again.
    """

    structure: str
    names: str
    prefixes: int
    largest: float
    origin: Mapping[str, Json]


@dataclass(frozen=True)
class SplitRecord(FileRecord):
    """The table of one split.

    Attributes:
        left_out: Questions of the data set that are not in the table.
        tokens: Tokens of all its questions, repeated ones counted each time.
        origin: Where its questions came from, as stage one named it.
    """

    left_out: int
    tokens: int
    origin: Mapping[str, Json]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read, or a question that could not be used.

    Attributes:
        id: Of the picture, or of the question; None for a question without one.
        where: File, line or row.
        reason: In a few words.
        split: Of the question; "" for a picture.
    """

    id: Id | None
    where: str
    reason: str
    split: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return a line of failures.jsonl."""
        if not self.split:
            return {"kind": "image", "id": self.id, "where": self.where, "reason": self.reason}
        split: dict[str, Json] = {"kind": "question", "split": self.split}
        return split | {"id": self.id, "where": self.where, "reason": self.reason}


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
        if kind == "images":
            return replace(self, images=shards)
        return replace(self, questions=shards)

    def with_split(self, name: str, record: SplitRecord) -> "Manifest":
        """Return a manifest in which `name` is this table."""
        return replace(self, splits={**self.splits, name: record})

    def to_json(self) -> str:
        """Return the text of cache.json."""
        body = {"format": FORMAT, **asdict(self)}
        body["xxh3"] = _body_digest(body)
        return json.dumps(body, indent=1)


def small_files(manifest: Manifest) -> dict[str, bytes]:
    """Return the files that a cache's folder itself holds, in the order of writing them.

    An empty one is not to exist. The last is for people and their scripts.
    """
    data = manifest.to_json().encode()
    lines = [json.dumps(f.to_json(), ensure_ascii=False) + "\n" for f in manifest.failures]
    # A path need not be UTF-8; what is not stays readable as JSON.
    return {NAME: data, COPY: data, FAILURES: "".join(lines).encode(errors="backslashreplace")}


def same_bytes(path: Path, data: bytes) -> bool:
    """Whether a file holds this; empty data stands for no file."""
    try:
        return read_file(path) == data
    except FileNotFoundError:
        return not data
    except OSError:
        return False


def load_manifest(directory: Path) -> Manifest:
    """Read and check cache.json.

    Raises:
        CacheError: if there is none, or it has another format version.
        CacheDamagedError: if its bytes are not those that were written.
    """
    path = directory / NAME
    try:
        data = read_file(path, most=LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        if (directory / COPY).exists():
            raise _damaged(path, "it is missing, but its copy is there") from None
        raise CacheError(
            f"{directory}: there is no cache here ({NAME} is missing). Make one with "
            f"`frozen-vqa extract-features --cache {quoted(directory)} --dataset ...`."
        ) from None
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        body = json.loads(data)
        found = body.pop("xxh3")
        version = body.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise _damaged(path, f"not a cache manifest ({error})") from error
    if version != FORMAT:
        raise CacheError(
            f"{path}: the cache has format {version!r}, this version of frozen-vqa reads {FORMAT}. "
            f"To migrate, run the extract-features command that made it again with another "
            f"--cache; the version that made it goes on reading this one."
        )
    try:
        if found != _body_digest({"format": version, **body}):
            raise _damaged(path, "its digest does not match its content; it was changed or damaged")
        return _from_json(body)
    except CacheDamagedError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, CacheError) as error:
        raise _damaged(path, f"not a cache manifest ({error})") from error


def _damaged(path: Path, what: str) -> CacheDamagedError:
    copy = path.with_name(COPY)
    return CacheDamagedError(
        f"{path}: {what}. Its copy may be whole: `cp {quoted(copy)} {quoted(path)}`, then "
        f"`frozen-vqa verify-cache {quoted(path.parent)}`"
    )


def _body_digest(body: Mapping[str, Any]) -> str:
    return digest(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def _from_json(body: dict[str, Any]) -> Manifest:
    manifest = Manifest(
        spec=make_dataclass(CacheSpec, body["spec"]),
        images=tuple(make_dataclass(ShardRecord, record) for record in body["images"]),
        questions=tuple(make_dataclass(ShardRecord, record) for record in body["questions"]),
        splits={
            name: make_dataclass(SplitRecord, record) for name, record in body["splits"].items()
        },
        failures=tuple(make_dataclass(Failure, failure) for failure in body["failures"]),
    )
    for folder, records in zip(
        FOLDERS, (manifest.images, manifest.questions, manifest.splits.values()), strict=True
    ):
        for record in records:
            _require_inside(folder, record)
    return manifest


def _require_inside(folder: str, record: FileRecord) -> None:
    """Refuse a record that points elsewhere, or numbers that nobody has."""
    place, name = record.file.split("/")
    counts = [record.rows, record.bytes]
    if isinstance(record, ShardRecord):
        counts.append(record.prefixes)
        if not math.isfinite(record.largest):
            raise ValueError(f"{record.file!r} has {record.largest} as its largest value")
    pattern = SPLIT_FILE if folder == "splits" else SHARD_FILE
    if place != folder or not pattern.fullmatch(name) or len(name.encode()) > 255:
        raise ValueError(f"{record.file!r} is no file of a cache")
    if not all(0 <= count < 2**48 for count in counts):
        raise ValueError(f"{record.file!r} has a count of {counts}")
