"""Rows of a shard that cannot be mapped are read from its file, and checked as well."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheDamagedError, FeatureCache
from frozen_vqa.cache.format.hdf5 import Extent
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.cache.reader import FileRows
from tests.support.caches import (
    PATCHES,
    VISION_DIM,
    Row,
    extent_of,
    make_cache,
    make_spec,
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_nothing_can_be_mapped_rows_are_read(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows, checked as well, and no shard is kept in memory."""
    rows = [Row(image, 0) for image in range(9)]
    directory = make_cache(tmp_path, {"train": rows}, spec=make_spec(dtype=dtype)).directory
    order = np.array([8, 0, 4, 4, 7])

    def read(cache: FeatureCache) -> list[list]:
        out = np.empty((5, PATCHES, VISION_DIM), cache.spec.image_dtype)
        scales = np.zeros((5, PATCHES), np.float16)
        cache.read_images(order, out, scales)
        return [out.tolist(), scales.tolist()]

    expected = read(FeatureCache(directory))
    calls = []

    def no_maps(path: Path) -> memoryview:
        calls.append(path)
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("frozen_vqa.cache.disk.integrity.map_file", no_maps)
    cache = FeatureCache(directory)
    assert read(cache) == read(cache) == expected
    assert len(calls) == 2
    assert all(isinstance(shard.rows, FileRows) for shard in cache._shards.values())

    path = directory / "images/00001.h5"
    data = bytearray(path.read_bytes())
    offset, _ = extent_of(path, "patch_embeddings")
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheDamagedError, match=r"00001\.h5: row 0 differs from its digest"):
        FeatureCache(directory).read_images(
            np.array([5]),
            np.empty((1, PATCHES, VISION_DIM), cache.spec.image_dtype),
            np.empty((1, PATCHES), np.float16),
        )
    os.truncate(path, offset + 3 * PATCHES * VISION_DIM + 1)
    with pytest.raises(CacheDamagedError, match=r"00001\.h5: ends before row 3"):
        cache._shards[1].rows[3]


def test_a_row_that_the_disk_cannot_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(bytes(range(12)))
    rows = FileRows(path, Extent(2, (2, 5), np.dtype("uint8")))
    assert rows[1].tolist() == [7, 8, 9, 10, 11]

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(CacheDamagedError, match=r"rows: row 1 cannot be read \(Input/output error"):
        rows[1]
