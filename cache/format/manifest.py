"""cache.json: which encoders made the cache, and which files belong to it.

It holds the records of the newest shards and pins the pages that hold those of all others, so that
a cache of any size opens at once, and a new shard changes little (records/).

A file exists for a reader only when the manifest names it, and the manifest is written last. It
has a digest of itself and of every file, so that it is the one root of trust: a reader trusts
only bytes that it has compared with a digest that leads here. A second copy lies beside it, because
a lost manifest makes a hundred gigabytes worthless.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frozen_vqa.cache.errors import CacheDamagedError, CacheError, made_by, quoted
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.records.files import (
    KINDS,
    DataRecord,
    Id,
    PageRecord,
    ShardKind,
    ShardRecord,
    SplitRecord,
    require_possible,
    require_room,
)
from frozen_vqa.cache.format.records.shard_list import PageSource, ReadPage, ShardList
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.names import require_split_name
from frozen_vqa.cache.typed_json import Json, UnfitValueError, decode, finite_json

SINGLE, FORMAT, PAGED = 5, 6, 7
"""What cache.json says: `SINGLE` if patch embeddings and hidden states have one part each, as older
versions read them, `FORMAT` if one has several, and `PAGED` if it has pages."""
PAGE = 500
"""Shards of a page. Those that fill no page yet are in cache.json, which a new shard rewrites."""
NAME = "cache.json"
COPY = "cache.copy.json"

LARGEST = 64 << 20
"""Bytes of cache.json that are read; the records of a page's shards take half a million."""

LARGEST_CACHE = 1 << 50
"""Bytes of all shards of a kind that may be told of; a thousand times the largest of ours."""

MOST_SPLITS, MOST_SHARDS = 1_000, 200_000


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
class _Pages:
    """The pages of each kind, as cache.json has them."""

    images: tuple[PageRecord, ...] = ()
    questions: tuple[PageRecord, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The whole of cache.json; records of shards may lie in pages, and are read when needed.

    `absent` names shards of pictures that a part of a cache lacks; no split of the part needs them.
    """

    spec: CacheSpec
    images: Sequence[ShardRecord] = ()
    questions: Sequence[ShardRecord] = ()
    splits: Mapping[str, SplitRecord] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def image_rows(self) -> int:
        """Pictures in the cache."""
        return self.shards("images").total("rows")

    @property
    def question_rows(self) -> int:
        """Distinct questions in the cache."""
        return self.shards("questions").total("rows")

    @property
    def prefix_rows(self) -> int:
        """Hidden states in the cache."""
        return self.shards("questions").total("prefixes")

    @property
    def files(self) -> tuple[DataRecord, ...]:
        """Every shard and split that is here; this reads all pages."""
        absent, every = set(self.absent), (*self.images, *self.questions, *self.splits.values())
        return tuple(record for record in every if record.file not in absent)

    @property
    def file_names(self) -> set[str]:
        """The names of every shard, split and page; this reads the first lines of all pages."""
        names = {name for kind in KINDS for name in self.shards(kind).column("file")}
        names |= {record.file for record in self.splits.values()}
        return names | {name for page in self.pages for name in (page.file, page.copy)}

    @property
    def pages(self) -> tuple[PageRecord, ...]:
        """The pages that hold the records of shards."""
        return tuple(page for kind in KINDS for page in self.shards(kind).pages)

    @property
    def is_empty(self) -> bool:
        """Whether there are neither shards nor splits."""
        return not (self.images or self.questions or self.splits)

    @property
    def bytes(self) -> int:
        """Bytes of all shards and splits that are here."""
        if self.absent:
            return sum(record.bytes for record in self.files)
        shards = sum(self.shards(kind).total("bytes") for kind in KINDS)
        return shards + sum(record.bytes for record in self.splits.values())

    def shards(self, kind: ShardKind) -> ShardList:
        """Return the shards of one kind."""
        found = self.images if kind == "images" else self.questions
        return found if isinstance(found, ShardList) else ShardList((), tuple(found))

    def find(self, file: str) -> tuple[ShardKind, int]:
        """Return the kind of a shard and its number; raise `KeyError` if no shard has this file."""
        for kind in KINDS:
            files = self.shards(kind).column("file")
            if file in files:
                return kind, files.index(file)
        raise KeyError(file)

    def with_shards(self, kind: ShardKind, shards: ShardList) -> "Manifest":
        """Return a manifest with these shards of one kind."""
        return replace(self, images=shards) if kind == "images" else replace(self, questions=shards)

    def with_shard(self, kind: ShardKind, index: int, record: ShardRecord) -> "Manifest":
        """Return a manifest in which this is the shard at `index`; one past the end appends."""
        return self.with_shards(kind, self.shards(kind).with_shard(index, record))

    def to_json(self) -> str:
        """Return the text of cache.json; raise `CacheError` for a number that no reader takes."""
        single = not (self.spec.more_vision or self.spec.more_text)
        body: dict[str, Any] = {"format": SINGLE if single else FORMAT, **vars(self)}
        body["spec"] = self.spec.to_json()
        body |= {kind: self.shards(kind).last for kind in KINDS}
        if not self.absent:  # a whole cache has the same bytes as before there were parts
            del body["absent"]
        if self.pages:
            body |= {"format": PAGED, "pages": {kind: self.shards(kind).pages for kind in KINDS}}
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


def parse_manifest(path: Path, data: bytes, read: ReadPage | None = None) -> Manifest:
    """Return the content of a cache.json; messages name its `path`, and `read` reads its pages.

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
    if version not in (SINGLE, FORMAT, PAGED):
        raise CacheError(
            f"{path}: the cache has format {version!r:.40}, but this version of frozen-vqa reads "
            f"formats {SINGLE} to {PAGED}. {made_by(version, PAGED)} Or run the "
            f"extract-features command that made it again, with another --cache."
        )
    try:
        if found != _digest_body({"format": version, **body}):
            raise damaged_manifest(path, "its content has another digest, so it was changed")
        return _from_json(path.parent, body, read)
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


def _from_json(directory: Path, body: dict[str, Any], read: ReadPage | None) -> Manifest:
    try:
        pages = decode(_Pages, body.pop("pages", {}))
    except UnfitValueError as error:
        raise error.below("pages") from None
    manifest = decode(Manifest, body)
    for kind in KINDS:
        shards = _listed(directory, manifest, kind, getattr(pages, kind), read)
        manifest = manifest.with_shards(kind, shards)
        if (size := shards.total("bytes")) > LARGEST_CACHE:  # sums of rows fit in 64 bits then
            raise ValueError(f"{kind}: {size:,} bytes; a cache has at most {LARGEST_CACHE:,}")
    require_few(len(manifest.splits), len(manifest.images) + len(manifest.questions))
    for name, record in manifest.splits.items():
        require_split_name(name)
        require_possible(manifest.spec, "splits", record.file, record.bytes, record.rows)
    files = manifest.shards("images").column("file") if manifest.absent else ()
    if not set(files).issuperset(manifest.absent):
        raise ValueError("a file is absent that is no shard of pictures")
    return manifest


def _listed(
    directory: Path,
    manifest: Manifest,
    kind: ShardKind,
    pages: tuple[PageRecord, ...],
    read: ReadPage | None,
) -> ShardList:
    """Return all shards of a kind, whose newest are in `manifest`."""
    spec, last = manifest.spec, manifest.shards(kind).last
    for record in last:
        require_possible(spec, kind, record.file, record.bytes, record.rows, record.prefixes)
    require = require_room(spec, kind)
    for page in pages:
        require_possible(spec, "manifest", page.file, page.bytes, 0)
        require(page.file, page.shard_bytes, page.rows, page.prefixes)
    return ShardList(pages, last, read and PageSource(directory, spec, kind, read))


def require_few(splits: int, shards: int) -> None:
    """Raise `CacheError` for more splits or shards than commands can go through in time."""
    if splits > MOST_SPLITS or shards > MOST_SHARDS:
        raise CacheError(
            f"{splits:,} splits and {shards:,} shards; a cache has at most {MOST_SPLITS:,} and "
            f"{MOST_SHARDS:,}. Make another cache for the rest."
        )
