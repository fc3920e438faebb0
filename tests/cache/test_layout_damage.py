"""Bits that flipped, noise and cuts: a damaged layout is refused or harmless, and soon."""

import random
import re
from collections.abc import Callable, Iterator

import h5py
import numpy as np
import pytest

from frozen_vqa.cache.errors import CacheDamagedError
from frozen_vqa.cache.hdf5 import hdf5_bytes
from frozen_vqa.cache.layout_messages import Block, FileBytes
from tests.support.layouts import (
    COLUMN,
    ROWS,
    attributes,
    every_dtype,
    layout_of,
    made,
    patched,
    u64,
)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often a block was given out, or part of one, since the list was cleared."""
    counted: list[int] = []
    for owner, name in ((FileBytes, "block"), (Block, "part"), (Block, "text")):
        whole = getattr(owner, name)

        def counting(*args: object, whole: Callable = whole) -> object:
            counted.append(1)
            return whole(*args)

        monkeypatch.setattr(owner, name, counting)
    return counted


def outcome(data: bytes, steps: list[int]) -> str:
    """Read a damaged file; what comes back must be ours or inside it, and soon."""
    steps.clear()
    try:
        found = layout_of(data)
    except CacheDamagedError:
        return "refused"
    finally:
        assert len(steps) < 2_000
    ends = 96
    for start, size in sorted((e.offset, e.nbytes) for e in found.values() if e.nbytes):
        assert ends <= start
        ends = start + size
    assert ends <= len(data)
    for extent in found.values():
        np.ndarray(extent.shape, extent.dtype, data, extent.offset)  # numpy checks it once more
    return "read"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Ours, and one by plain h5py with attributes, continuation blocks and several leaves."""

    def both(file: h5py.File) -> None:
        attributes(file)
        every_dtype(file)

    ours = hdf5_bytes({"rows": ROWS, "none": ROWS[:0], "column": COLUMN})
    return [ours, made(both, tmp_path_factory.mktemp("samples") / "a.h5")]


def test_each_flipped_bit_is_refused_or_harmless(samples: list[bytes], steps: list[int]) -> None:
    """Every bit of every byte that is not a filler."""
    data = samples[0]
    whole = layout_of(data)
    seen = {"refused": 0, "read": 0}
    for place in (place for place, byte in enumerate(data) if byte):
        for bit in range(8):
            seen[outcome(patched(data, (place, bytes([data[place] ^ 1 << bit]))), steps)] += 1
    assert min(seen.values()) > 300, seen
    for name, extent in whole.items():  # the numbers themselves are the digests' matter
        for place in range(extent.offset, extent.offset + extent.nbytes):
            assert layout_of(patched(data, (place, b"\x55"))) == whole, name


def test_random_damage_is_refused_or_harmless(samples: list[bytes], steps: list[int]) -> None:
    """3,000 times: noise, and words that lead elsewhere in the file or far outside."""
    rng = random.Random(3)
    seen = {"refused": 0, "read": 0}
    for data in samples:
        structure = [place & ~7 for place in range(len(data) - 24) if data[place]]
        known = [m.start() for m in re.finditer(b"TREE|SNOD|HEAP|\x01\x00[\x03-\x20]\x00", data)]
        words = [0, 1, 8, 2**63, 2**64 - 1, len(data), len(data) - 8, *known]
        for _ in range(1500):
            changes = []
            for _ in range(rng.randint(1, 4)):
                noise = rng.randbytes(rng.randint(1, 24))
                changes.append((rng.choice(structure), rng.choice([noise, u64(rng.choice(words))])))
            seen[outcome(patched(data, *changes), steps)] += 1
    assert min(seen.values()) > 100, seen


def test_a_file_cut_anywhere_is_refused(samples: list[bytes], steps: list[int]) -> None:
    """Also where the header was made to agree with the cut."""
    rng = random.Random(4)
    for data in samples:
        for length in [*range(120), *rng.sample(range(len(data)), 400)]:
            assert outcome(data[:length], steps) == "refused"
            mended = patched(data, (40, u64(length)))[:length]
            assert outcome(mended, steps) == "refused"
