"""A page: the records of many shards in one file that is never written again.

    {"file": [...], "rows": [...], ..., "texts": [...], "origins": [...]}   what is summed or sought
    ["<xxh3>", "<structure>", "<names>", [0, 1, 2, 3], 0]                   a line for each shard

The lists of the first line have an entry for each shard. `texts` and `origins` hold once what
shards share; a line has the places of the names and extents of its datasets in the one (name,
extent, name, extent, ...), and that of its origin in the other. A line is read when its shard is
asked for. So what opens a cache of 100,000 shards reads no text of a digest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.finite import LARGEST
from frozen_vqa.cache.format.records.files import (
    Origin,
    PageRecord,
    ShardKind,
    ShardRecord,
    require_name,
    require_room,
)
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.typed_json import Count, decode, finite_json

Column = Literal["file", "rows", "bytes", "prefixes", "largest"]
COLUMNS: tuple[Column, ...] = ("file", "rows", "bytes", "prefixes", "largest")
"""What the first line of a page has of each shard."""


@dataclass(frozen=True)
class _Head:
    file: tuple[str, ...]
    rows: tuple[Count, ...]
    bytes: tuple[Count, ...]
    prefixes: tuple[Count, ...]
    largest: tuple[Annotated[float, (0, LARGEST)], ...]
    texts: tuple[str, ...]
    origins: tuple[Annotated[Mapping[str, Any], Origin], ...]


_Line = tuple[str, str, str, tuple[Count, ...], Count]


class Page:
    """The records of a page; `ValueError` if they are not those that `record` tells of."""

    def __init__(self, spec: CacheSpec, kind: ShardKind, record: PageRecord, data: bytes) -> None:
        head, *self._lines = data.split(b"\n")
        self._head = decode(_Head, finite_json(head))
        columns = [self.column(name) for name in COLUMNS]
        if {record.shards} != {len(self._lines), *map(len, columns)}:
            raise ValueError(f"it does not hold {record.shards:,} shards")
        require = require_room(spec, kind)
        for file, rows, size, prefixes, _ in zip(*columns, strict=True):
            require_name(kind, file)
            require(file, size, rows, prefixes)
        _, rows, size, prefixes, _ = columns
        if (sum(rows), sum(size), sum(prefixes)) != (
            record.rows,
            record.shard_bytes,
            record.prefixes,
        ):
            raise ValueError("its shards hold other rows or bytes together")

    def column(self, name: Column) -> Sequence[Any]:
        """Return a field of each of its records."""
        return cast(Sequence[Any], getattr(self._head, name))

    @property
    def origins(self) -> Sequence[Mapping[str, Any]]:
        """The origins of its shards, each once."""
        return self._head.origins

    def record(self, place: int) -> ShardRecord:
        """Return the record of a shard; `ValueError` or `IndexError` if it is none."""
        line = decode(cast(type[_Line], _Line), finite_json(self._lines[place]))
        xxh3, structure, names, datasets, origin = line
        fields: dict[str, Any] = {name: self.column(name)[place] for name in COLUMNS}
        texts = [self._head.texts[at] for at in datasets]
        return ShardRecord(
            **fields,
            xxh3=xxh3,
            structure=structure,
            names=names,
            datasets=dict(zip(texts[::2], texts[1::2], strict=True)),
            origin=self._head.origins[origin],
        )


def page_bytes(records: Sequence[ShardRecord]) -> bytes:
    """Return the bytes of a page."""
    texts: dict[str, int] = {}
    origins: dict[str, int] = {}
    lines = []
    for record in records:
        pairs = [text for pair in record.datasets.items() for text in pair]
        datasets = [texts.setdefault(text, len(texts)) for text in pairs]
        origin = origins.setdefault(_text(record.origin), len(origins))
        lines.append(_text([record.xxh3, record.structure, record.names, datasets, origin]))
    head: dict[str, list[Any]] = {name: [getattr(one, name) for one in records] for name in COLUMNS}
    head |= {"texts": list(texts), "origins": [finite_json(one) for one in origins]}
    return "\n".join([_text(head), *lines]).encode()


def page_record(file: str, records: Sequence[ShardRecord], data: bytes) -> PageRecord:
    """Return what the manifest says of a page with these bytes."""
    return PageRecord(
        file=file,
        rows=sum(record.rows for record in records),
        bytes=len(data),
        xxh3=digest(data),
        shards=len(records),
        prefixes=sum(record.prefixes for record in records),
        shard_bytes=sum(record.bytes for record in records),
    )


def _text(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
