"""cache.json: which encoders made the cache, and which files belong to it.

A file exists for a reader only when the manifest names it; the manifest is written last. It
carries a digest of itself and of every file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import CacheDamagedError, CacheError, CacheMismatchError
from cache.files import digest, write_atomically

FORMAT = 1
NAME = "cache.json"
DTYPES = ("float16", "float32")
FOLDERS = ("images", "questions", "splits")

Json = str | int | float | bool | None | list | dict


@dataclass(frozen=True)
class CacheSpec:
    """What fixes the numbers in a cache: two extractions with equal specs may share one.

    Attributes:
        vision: Settings of the image encoder by name (model, revision, image size, ...).
        text: Settings of the text encoder by name (model, revision, layer, ...).
        grid: Rows and columns of patches in one picture.
        vision_dim: Size of one patch embedding.
        text_dim: Size of one hidden state.
        dtype: How numbers are stored; one of `DTYPES`.
    """

    vision: Mapping[str, Json]
    text: Mapping[str, Json]
    grid: tuple[int, int]
    vision_dim: int
    text_dim: int
    dtype: str = "float16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if self.dtype not in DTYPES:
            raise CacheError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")

    @property
    def patches(self) -> int:
        """Patch embeddings per picture."""
        return self.grid[0] * self.grid[1]

    @property
    def image_row_bytes(self) -> int:
        """Bytes of one picture's patch embeddings and CLS vector."""
        return (self.patches + 1) * self.vision_dim * np.dtype(self.dtype).itemsize

    @property
    def prefix_row_bytes(self) -> int:
        """Bytes of one hidden state."""
        return self.text_dim * np.dtype(self.dtype).itemsize

    def settings(self) -> dict[str, Json]:
        """Return every setting under one flat name, for comparison and for people."""
        flat: dict[str, Json] = {f"vision {name}": value for name, value in self.vision.items()}
        flat |= {f"text {name}": value for name, value in self.text.items()}
        return flat | {"dtype": self.dtype}

    def require(self, asked: "CacheSpec", where: Path) -> None:
        """Raise `CacheMismatchError`, both values named, unless `asked` equals this spec."""
        mine, theirs = self.settings(), asked.settings()
        differing = [k for k in {**mine, **theirs} if mine.get(k) != theirs.get(k)]
        if differing:
            found = "; ".join(
                f"{name} is {mine.get(name)!r}, asked for {theirs.get(name)!r}"
                for name in differing[:5]
            )
            raise CacheMismatchError(
                f"{where}: this cache was made otherwise: {found}. "
                f"Ask for what it holds, or give another --cache."
            )


@dataclass(frozen=True)
class FileRecord:
    """One file of the cache: its name below the cache, rows, bytes and digest.

    Attributes:
        rows: Pictures, questions or split rows in the file.
        prefixes: Distinct prefixes, in question shards.
        largest: Largest absolute feature value.
        left_out: Questions that a split lost to pictures that could not be read.
    """

    file: str
    rows: int
    bytes: int
    xxh3: str
    prefixes: int = 0
    largest: float = 0.0
    left_out: int = 0


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read."""

    image_id: str
    where: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The whole of cache.json."""

    spec: CacheSpec
    images: tuple[FileRecord, ...] = ()
    questions: tuple[FileRecord, ...] = ()
    splits: Mapping[str, FileRecord] = field(default_factory=dict)
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
    def bytes(self) -> int:
        """Bytes of all shards and splits."""
        return sum(r.bytes for r in (*self.images, *self.questions, *self.splits.values()))

    def with_split(self, name: str, record: FileRecord) -> "Manifest":
        """Return a manifest in which `name` is this file."""
        return replace(self, splits={**self.splits, name: record})

    def save(self, directory: Path) -> None:
        """Write cache.json, whole or not at all."""
        body = {"format": FORMAT, **asdict(self)}
        body["xxh3"] = _body_digest(body)
        write_atomically(directory / NAME, json.dumps(body, indent=1).encode())


def load_manifest(directory: Path) -> Manifest:
    """Read and check cache.json.

    Raises:
        CacheError: if there is none, or it has another format version.
        CacheDamagedError: if its bytes are not those that were written.
    """
    path = directory / NAME
    try:
        body = json.loads(path.read_bytes())
        found = body.pop("xxh3")
        version = body.pop("format")
    except (FileNotFoundError, NotADirectoryError):
        raise CacheError(
            f"{directory}: there is no cache here ({NAME} is missing). "
            f"Make one with `extract-features --cache {directory} --dataset ...`."
        ) from None
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CacheDamagedError(f"{path}: not a cache manifest ({error})") from error
    if version != FORMAT:
        raise CacheError(
            f"{path}: format {version!r}, but this version reads format {FORMAT}. "
            f"Extract the features again into another --cache."
        )
    if found != _body_digest({"format": version, **body}):
        raise CacheDamagedError(
            f"{path}: its digest does not match its content; it was changed or damaged. "
            f"Restore it from a copy, or extract again into another --cache."
        )
    try:
        return _from_json(body)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CacheDamagedError(f"{path}: not a cache manifest ({error})") from error


def _body_digest(body: Mapping[str, Any]) -> str:
    return digest(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def _from_json(body: dict[str, Any]) -> Manifest:
    return Manifest(
        spec=CacheSpec(**body["spec"]),
        images=tuple(_record(record) for record in body["images"]),
        questions=tuple(_record(record) for record in body["questions"]),
        splits={name: _record(record) for name, record in body["splits"].items()},
        failures=tuple(Failure(**failure) for failure in body["failures"]),
    )


def _record(body: dict[str, Any]) -> FileRecord:
    folder, name = body["file"].split("/")  # a manifest from elsewhere must not point elsewhere
    if folder not in FOLDERS or name in ("", ".", ".."):
        raise ValueError(f"{body['file']!r} is no file of a cache")
    return FileRecord(**body)
