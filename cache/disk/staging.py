"""Finished shards, staged by any number of processes until the one writer adopts them.

    CACHE/images/staged-0123456789abcdef.shard   the bytes of one chunk, whole
    CACHE/images/staged-0123456789abcdef.json    its record, and what failed; written last

So several processes encode chunks of one extraction without talking to each other, and one alone
changes the manifest. The name is a digest of everything that determines a chunk. So the next
extraction adopts the chunks of a dead one, and a process that outlives its extraction does no harm:
a chunk of that name always has the same content. A chunk that stores nothing has no .shard.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.errors import CacheDamagedError, CacheError, explain_write_errors
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.hdf5 import read_extents
from frozen_vqa.cache.format.manifest import Failure
from frozen_vqa.cache.format.records.files import KINDS, ShardKind, ShardRecord
from frozen_vqa.cache.format.shards import Shard, names_digest
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import Json, decode, finite_json

STAGED = re.compile(r"staged-[0-9a-f]{16}\.(shard|json)(\.[0-9a-f]{8}\.partial)?")

LARGEST_RECORD = 64 << 20
"""Bytes of a chunk's record that are read; each picture or question adds about a hundred."""

explain_errors = partial(
    explain_write_errors,
    error=CacheError,
    advice="What was stored before is whole. Make room and run the same command to go on.",
)
"""`explain_write_errors` for the files of a cache."""


@dataclass(frozen=True)
class StagedShard:
    """A finished chunk and the names it stores; no record if none of its pictures could be read."""

    record: ShardRecord | None
    names: Sequence[str]
    failures: Sequence[Failure]


def chunk_key(spec: CacheSpec, origin: Mapping[str, Json], content: Json) -> str:
    """Return the name of a chunk: 16 hexadecimal digits of a digest.

    The content is the ids of its pictures, or the rows of its prefixes.
    """
    return digest(json.dumps([spec.settings(), dict(origin), content]).encode())[:16]


def staged_paths(directory: Path, kind: ShardKind, key: str) -> tuple[Path, Path]:
    """Return the files that hold the bytes and the record of a chunk."""
    folder = path_in(directory, kind)
    return path_in(folder, f"staged-{key}.shard"), path_in(folder, f"staged-{key}.json")


def stage_shard(
    directory: Path,
    key: str,
    shard: Shard | None,
    *,
    kind: ShardKind,
    failures: Sequence[Failure] = (),
) -> StagedShard:
    """Write a finished chunk for the writer to find; it stores nothing if `shard` is None.

    Return what `read_staged` would. Raise `CacheError` if it cannot be written; nothing is left
    behind then.
    """
    staged = StagedShard(shard.record if shard else None, shard.names if shard else (), failures)
    body = json.dumps(staged, default=vars)  # asdict would copy each of 200,000 failures
    sealed = json.dumps({"staged": body, "xxh3": digest(body.encode())}).encode()
    path, record_path = staged_paths(directory, kind, key)
    with explain_errors(path):
        if shard:
            write_atomically(path, *shard.pieces, shared=True)
        write_atomically(record_path, sealed, shared=True)
    return staged


def read_staged(directory: Path, kind: ShardKind, key: str) -> StagedShard | None:
    """Return a chunk's record if it is whole and its bytes have its digest; None otherwise."""
    path, record_path = staged_paths(directory, kind, key)
    try:
        sealed = finite_json(read_file(record_path, most=LARGEST_RECORD))
        if sealed["xxh3"] != digest(sealed["staged"].encode()):
            return None
        staged = decode(StagedShard, finite_json(sealed["staged"]))
        record, names = staged.record, staged.names
        if record and not _describes(record, names, read_file(path, most=record.bytes)):
            return None
        return staged
    except (OSError, MemoryError, RecursionError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or not whole: it is encoded again
    except CacheDamagedError:
        return None  # it tells of extents that its bytes cannot have


def _describes(record: ShardRecord, names: Sequence[str], data: bytes) -> bool:
    """Whether a record is that of these bytes and names, so that a manifest may take it."""
    read_extents(record.datasets, len(data), record.file)
    found = (digest(data), len(data), len(names), names_digest(names))
    return found == (record.xxh3, record.bytes, record.rows, record.names)


def forget_failures(directory: Path) -> None:
    """Forget staged chunks that are not whole, or have failures, which may be fixed by now."""
    for kind in KINDS:
        for path in path_in(directory, kind).glob("staged-*.json"):
            staged = read_staged(directory, kind, path.stem.removeprefix("staged-"))
            if STAGED.fullmatch(path.name) and (staged is None or staged.failures):
                with explain_errors(path):
                    path.unlink()


def remove_staged(directory: Path) -> None:
    """Remove all staged chunks, whole or not; only their names tell that they are ours."""
    for kind in KINDS:
        for path in path_in(directory, kind).glob("staged-*"):
            if STAGED.fullmatch(path.name) and (path.is_file() or path.is_symlink()):
                path.unlink()
