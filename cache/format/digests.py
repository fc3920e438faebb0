"""Digests of files and of rows: xxh3, which detects accidents and keeps up with memory."""

import numpy as np
import xxhash

Buffer = bytes | memoryview


def digest(*pieces: Buffer) -> str:
    """Return the 128-bit xxh3 digest of a file's bytes, in hexadecimal."""
    hasher = xxhash.xxh3_128()
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


def row_digest(row: np.ndarray) -> int:
    """Return the 64-bit xxh3 digest of one C-contiguous row."""
    return xxhash.xxh3_64_intdigest(row.reshape(-1).view(np.uint8).data)


def row_digests(rows: np.ndarray) -> np.ndarray:
    """Return the 64-bit xxh3 digest of each row: (rows, ...) -> (rows,) uint64."""
    return np.array([row_digest(row) for row in np.ascontiguousarray(rows)], dtype=np.uint64)
