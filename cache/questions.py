"""All distinct questions of a cache.

Their hidden states are few after prefix sharing, and stay in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frozen_vqa.cache.arrivals import arrivals_of, shown
from frozen_vqa.cache.disk.integrity import read_whole
from frozen_vqa.cache.errors import CacheDamagedError, CacheError
from frozen_vqa.cache.format.bfloat16 import to_floats
from frozen_vqa.cache.format.digests import row_digests
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.format.parts import Columns
from frozen_vqa.cache.format.records.files import ShardRecord
from frozen_vqa.cache.format.shards import read_paths


@dataclass(frozen=True)
class Questions:
    """All distinct questions of a cache.

    Attributes:
        hidden_states: (prefixes, text_dim), one row per distinct token prefix, in the state dtype
            of the cache.
        path_rows: (tokens,) rows of `hidden_states`, question after question.
        path_offsets: (questions + 1,) where each question's path begins and ends.
    """

    texts: Sequence[str]
    hidden_states: np.ndarray
    path_rows: np.ndarray
    path_offsets: np.ndarray

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each question: (questions,)."""
        return np.diff(self.path_offsets)

    def states(self, row: int) -> np.ndarray:
        """Return the hidden states of one question: (tokens, text_dim) floats."""
        path = self.path_rows[self.path_offsets[row] : self.path_offsets[row + 1]]
        return to_floats(self.hidden_states[path])


def read_questions(directory: Path, manifest: Manifest, picked: Columns = ()) -> Questions:
    """Read all questions, with the `picked` channels of hidden states alone if there are any.

    Raises `CacheDamagedError` if they are not what was written.
    """
    if arrivals := arrivals_of(directory):
        arrivals.expect(manifest.questions)
    texts: list[str] = []
    dim = picked[-1][0].stop if picked else manifest.spec.text_dim
    shape = manifest.prefix_rows, dim
    try:  # joined without a second copy; no page of it is used before a shard was read
        hidden_states = np.empty(shape, manifest.spec.state_dtype)
    except MemoryError:
        raise CacheError(
            f"{shown(directory)}: its manifest tells of {shape[0]:,} hidden states of {dim:,} "
            f"numbers, which do not fit in memory. Train on a machine with more of it, or make a "
            f"cache of fewer questions."
        ) from None
    end = 0
    rows, offsets = [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
    for record in manifest.questions:
        states = hidden_states[end : (end := end + record.prefixes)]
        more, path_rows, path_offsets = _read_shard(directory, manifest, record, states, picked)
        texts += more
        rows.append(path_rows)
        offsets.append(path_offsets[1:] + offsets[-1][-1])
    path_rows, path_offsets = np.concatenate(rows), np.concatenate(offsets)
    inside = (path_rows >= 0) & (path_rows < manifest.prefix_rows)
    # A prefix comes after the one it continues. So no question can be longer than the cache has
    # rows, even in a cache from somebody else.
    rising = np.diff(path_rows) > 0
    rising[path_offsets[(path_offsets > 0) & (path_offsets < len(path_rows))] - 1] = True
    if not (inside.all() and rising.all()):
        raise CacheDamagedError(f"{directory / 'questions'}: paths do not fit the rows")
    return Questions(texts, hidden_states, path_rows, path_offsets)


def _read_shard(
    directory: Path,
    manifest: Manifest,
    record: ShardRecord,
    states: np.ndarray,
    picked: Columns,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Copy the hidden states of a shard into `states`; return texts, path rows and offsets."""
    file = read_whole(directory, record)
    shape = len(states), manifest.spec.text_dim
    stored, digests = file.rows("hidden_states", shape, states.dtype)
    for to, at in picked or [(slice(None), slice(None))]:
        states[:, to] = stored[:, at]
    if (row_digests(stored if picked else states) != digests).any():
        raise CacheDamagedError(f"{file.path}: hidden states differ from their digests")
    texts, path_rows, path_offsets = read_paths(file, record.rows)
    # Copies, because a view would keep all of the file in memory.
    return texts, path_rows.copy(), path_offsets.copy()
