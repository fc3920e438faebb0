"""What the manifest says of each file of a cache."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from frozen_vqa.cache.format.finite import LARGEST
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.names import LONGEST_NAME
from frozen_vqa.cache.typed_json import Count

FOLDERS = ("images", "questions", "splits", "manifest")
_NUMBERED = r"[0-9]{5,}(~[0-9]+)?"
FILES = {
    **dict.fromkeys(("images", "questions"), re.compile(rf"{_NUMBERED}\.h5")),
    "splits": re.compile(r"[^/\x00-\x1f\x7f]+\.h5"),
    "manifest": re.compile(rf"(images|questions)-{_NUMBERED}\.json"),
}
"""How the files of each folder are called."""

MOST_IN_PAGE = 10_000
"""Shards that a page may hold; we write 500."""

LARGEST_PAGE = 32 << 20
"""Bytes of a page that are read; one of ours has about two hundred thousand."""

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
    drift: Annotated[float, (0, LARGEST)]
    drifts: Mapping[str, Annotated[float, (0, LARGEST)]]
    images: str
    annotations: str
    metric: str
    without_picture: Sequence[tuple[Id, str]]


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of the cache; its rows are pictures, distinct questions, or questions of a split."""

    file: str
    rows: Count
    bytes: Count
    xxh3: str


@dataclass(frozen=True, kw_only=True)
class DataRecord(FileRecord):
    """An HDF5 file.

    `datasets` says where the numbers of each of its datasets lie (`hdf5.Extent` as text), which is
    checked when the file is opened.
    """

    datasets: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ShardRecord(DataRecord):
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
    largest: Annotated[float, (0, LARGEST)]
    origin: Annotated[Mapping[str, Any], Origin]


@dataclass(frozen=True, kw_only=True)
class SplitRecord(DataRecord):
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


@dataclass(frozen=True, kw_only=True)
class PageRecord(FileRecord):
    """One page, which holds the records of `shards` shards.

    `rows`, `prefixes` and `shard_bytes` are those of its shards together; `bytes` are its own.
    """

    bytes: Annotated[int, (1, LARGEST_PAGE)]
    shards: Annotated[int, (1, MOST_IN_PAGE)]
    prefixes: Count
    shard_bytes: Count

    @property
    def copy(self) -> str:
        """The file that repeats it, for a lost page makes its shards worthless."""
        return f"{self.file.removesuffix('.json')}.copy.json"


def require_possible(
    spec: CacheSpec, folder: str, file: str, size: int, rows: int, prefixes: int = 0
) -> None:
    """Raise `ValueError` for a file that lies elsewhere, or that cannot hold what is said of it."""
    require_name(folder, file)
    require_room(spec, folder)(file, size, rows, prefixes)


def require_name(folder: str, file: str) -> None:
    """Raise `ValueError` unless a file is called as those of a folder are."""
    place, _, name = file.partition("/")
    if place != folder or not FILES[place].fullmatch(name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"{file!r} is no file of a cache")


def require_room(spec: CacheSpec, folder: str) -> Callable[[str, int, int, int], None]:
    """Return what raises `ValueError` if so many rows and prefixes need more than these bytes."""
    row_bytes = spec.image_row_bytes if folder == "images" else 1
    prefix_bytes = spec.prefix_row_bytes

    def check(what: str, size: int, rows: int, prefixes: int) -> None:
        least = max(rows * row_bytes, prefixes * prefix_bytes)
        if least > size:
            raise ValueError(f"{what}: {size:,} bytes cannot hold {least:,}")

    return check
