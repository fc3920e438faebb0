"""Finished shards, laid aside by any number of processes until the one writer adopts them.

    CACHE/images/aside-0123456789abcdef.shard   the bytes of one chunk, whole
    CACHE/images/aside-0123456789abcdef.json    its record, and what it left out; written last

So several processes encode chunks of one extraction without a word between them, and one alone
changes the manifest. The name is a digest of all that fixes what a chunk holds. So the next
extraction takes up what a dead one has finished, and a process of a dead one that still lives can
do no harm: a chunk of that name is what it should be, whoever made it. A chunk that could store
nothing has no .shard.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.files import digest, read_file, write_atomically
from frozen_vqa.cache.manifest import Failure, ShardKind, ShardRecord
from frozen_vqa.cache.shards import Shard
from frozen_vqa.cache.spec import CacheSpec, Json

ASIDE = re.compile(r"aside-[0-9a-f]{16}\.(shard|json)(\.[0-9a-f]{8}\.partial)?")


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


def chunk_key(spec: CacheSpec, origin: Mapping[str, Json], content: Json) -> str:
    """Return the name of a chunk: 16 hexadecimal digits of a digest.

    Args:
        spec: Of the cache.
        origin: What its record will say of where it came from.
        content: The ids of its pictures, or the rows of its prefixes.
    """
    return digest(json.dumps([spec.settings(), dict(origin), content]).encode())[:16]


def shard_path(directory: Path, kind: ShardKind, key: str) -> Path:
    """Return where the bytes of a chunk lie."""
    return directory / kind / f"aside-{key}.shard"


def record_path(directory: Path, kind: ShardKind, key: str) -> Path:
    """Return where the record of a chunk lies."""
    return directory / kind / f"aside-{key}.json"


def lay_aside(
    directory: Path,
    key: str,
    shard: Shard | None,
    *,
    kind: ShardKind,
    failures: Sequence[Failure] = (),
) -> None:
    """Write a finished chunk where the writer finds it.

    Args:
        directory: Of the cache.
        key: From `chunk_key`.
        shard: What it stores; None for nothing.
        kind: Of its rows.
        failures: Pictures of this chunk that cannot be read.

    Raises:
        CacheError: if it cannot be written; nothing is left behind then.
    """
    laid = Laid(shard.record if shard else None, shard.names if shard else (), failures)
    body = json.dumps(asdict(laid))
    with writing(shard_path(directory, kind, key)):
        if shard:
            write_atomically(shard_path(directory, kind, key), shard.data, shared=True)
        write_atomically(
            record_path(directory, kind, key),
            json.dumps({"laid": body, "xxh3": digest(body.encode())}).encode(),
            shared=True,
        )


def laid_aside(directory: Path, kind: ShardKind, key: str) -> Laid | None:
    """Return a chunk's record once its bytes proved to be those of the record; None otherwise."""
    try:
        outer = json.loads(read_file(record_path(directory, kind, key)))
        if outer["xxh3"] != digest(outer["laid"].encode()):
            return None
        body = json.loads(outer["laid"])
        record = None if body["record"] is None else ShardRecord(**body["record"])
        if record and digest(read_file(shard_path(directory, kind, key))) != record.xxh3:
            return None
        failures = [Failure(**failure) for failure in body["failures"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or not whole: it is encoded again
    return Laid(record, body["names"], failures)


def forget_failures(directory: Path) -> None:
    """Forget what a dead extraction could not read, for it may have been mended since.

    Chunks that are not whole are forgotten as well.
    """
    kinds: tuple[ShardKind, ...] = ("images", "questions")
    for kind in kinds:
        for path in (directory / kind).glob("aside-*.json"):
            laid = laid_aside(directory, kind, path.stem.removeprefix("aside-"))
            if ASIDE.fullmatch(path.name) and (laid is None or laid.failures):
                with writing(path):
                    path.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says against writing into a sentence."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"{path}: cannot be written ({error.strerror}). What was stored before is whole; "
            f"make room and run the same command to go on."
        ) from error
