"""The names of all rows of a cache: the ids of its pictures, or the texts of its questions.

An extraction reads them of every shard, which may be a hundred thousand. The manifest has a digest
of the names of a shard, so the two columns that hold them suffice.
"""

import os
from collections.abc import Iterator
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.disk.integrity import open_shard, read_at
from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.format.hdf5 import DTYPES, read_extents, require_offsets
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.records.files import ShardKind, ShardRecord
from frozen_vqa.cache.format.shards import NAMES, names_digest


def read_names(directory: Path, manifest: Manifest, kind: ShardKind) -> list[str]:
    """Return the id of every picture, or the text of every distinct question, by row."""
    return list(chain.from_iterable(names_by_shard(directory, manifest, kind)))


def names_by_shard(
    directory: Path, manifest: Manifest, kind: ShardKind, first: int = 0
) -> Iterator[list[str]]:
    """Yield the ids of pictures, or the texts of distinct questions, of each shard from `first` on.

    Pictures of shards that a part of a cache lacks have none; no split of the part shows them.
    Raise `CacheDamagedError` for a shard that is not what was written.
    """
    absent, shards = set(manifest.absent), manifest.shards(kind)
    for record in map(shards.__getitem__, range(first, len(shards))):
        if record.file in absent:
            yield [""] * record.rows
        else:
            names = read_at(directory, record, partial(_names_alone, kind, record))
            if names is None:  # it is damaged, and this says how
                names = open_shard(directory, kind, record).texts(NAMES[kind])
            yield names


def _names_alone(kind: ShardKind, record: ShardRecord, path: Path) -> list[str] | None:
    """Return the names of a shard if they have their digest; nothing else of it is read."""
    columns = (f"{NAMES[kind]}_utf8", f"{NAMES[kind]}_offsets")
    try:
        some = {name: record.datasets[name] for name in columns}
        extents = list(read_extents(some, record.bytes, record.file).values())
        if [extent.dtype for extent in extents] != [DTYPES["uint8"], DTYPES["int64"]]:
            return None
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size != record.bytes:
                return None
            text, cuts = (os.pread(file.fileno(), one.nbytes, one.offset) for one in extents)
        offsets = np.frombuffer(cuts, DTYPES["int64"])
        require_offsets(offsets, len(text), record.file)
        names = [text[begin:end].decode() for begin, end in pairwise(offsets.tolist())]
    except (CacheDamagedError, KeyError, OSError, ValueError):
        return None
    whole = len(names) == record.rows and names_digest(names) == record.names
    return names if whole else None
