"""Finished shards, laid aside by any number of processes until the one writer adopts them.

    CACHE/images/00007.shard   the bytes of the extraction's chunk 7, whole
    CACHE/images/00007.json    its record, and which pictures it had to leave out; written last

So several processes encode chunks of one extraction without a word between them, and one alone
changes the manifest. A chunk that could store nothing has no .shard. What a dead extraction left
here is removed by the next: it is encoded again, with the same bytes.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cache.errors import CacheError
from cache.files import read_file, write_atomically
from cache.manifest import Failure, ShardKind, ShardRecord
from cache.shards import Shard

LEFTOVER = re.compile(r"\d+\.(h5|shard|json)(\.partial)?")
"""Names that files of a cache's images/ and questions/ have."""


@dataclass(frozen=True)
class Laid:
    """A chunk that is done.

    Attributes:
        record: Of its shard; None if none of its pictures could be read.
        names: Image ids or question texts that it stores.
        failures: Pictures that it could not read.
    """

    record: ShardRecord | None
    names: Sequence[str]
    failures: Sequence[Failure]


def shard_path(directory: Path, kind: ShardKind, chunk: int) -> Path:
    """Return where the bytes of a chunk lie."""
    return directory / kind / f"{chunk:05d}.shard"


def record_path(directory: Path, kind: ShardKind, chunk: int) -> Path:
    """Return where the record of a chunk lies."""
    return directory / kind / f"{chunk:05d}.json"


def lay_aside(
    directory: Path,
    chunk: int,
    shard: Shard | None,
    *,
    kind: ShardKind,
    failures: Sequence[Failure] = (),
) -> None:
    """Write a finished chunk where the writer finds it.

    Args:
        directory: Of the cache.
        chunk: Its place among the chunks of this extraction.
        shard: What it stores; None for nothing.
        kind: Of its rows.
        failures: Pictures of this chunk that cannot be read.

    Raises:
        CacheError: if it cannot be written; nothing is left behind then.
    """
    path = shard_path(directory, kind, chunk)
    laid = Laid(shard.record if shard else None, shard.names if shard else (), failures)
    try:
        if shard:
            write_atomically(path, shard.data)
        write_atomically(record_path(directory, kind, chunk), json.dumps(asdict(laid)).encode())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def laid_aside(directory: Path, kind: ShardKind, chunk: int) -> Laid | None:
    """Return a chunk's record, or None if it is not done."""
    try:
        body = json.loads(read_file(record_path(directory, kind, chunk)))
    except FileNotFoundError:
        return None
    record, failures = body["record"], body["failures"]
    return Laid(
        record=None if record is None else ShardRecord(**record),
        names=body["names"],
        failures=[Failure(**failure) for failure in failures],
    )


def cannot_write(path: Path, error: OSError) -> CacheError:
    """Say that the disk is full or gone."""
    return CacheError(
        f"{path}: cannot be written ({error.strerror}). What was stored before is whole; "
        f"make room and run the same command to go on."
    )
