"""Files that cannot be read as a whole are one sentence."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheDamagedError, CacheError, load_manifest
from frozen_vqa.cache.disk import integrity
from frozen_vqa.cache.disk.integrity import read_prefixes, read_table, read_whole
from tests.support.caches import Row, make_cache


def test_a_file_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(path: Path, *, most: int) -> bytes:
        raise MemoryError

    made = make_cache(tmp_path / "cache", {"val": [Row(0, 0, ("red",))]})
    record = load_manifest(made.directory).splits["val"]
    monkeypatch.setattr("frozen_vqa.cache.disk.integrity.read_file", too_large)
    with pytest.raises(CacheError, match=r"val\.h5: its [0-9,]+ bytes do not fit in memory"):
        read_table(made.directory, record)


def test_a_whole_file_is_read_only_if_each_byte_is_as_written(tmp_path: Path) -> None:
    made = make_cache(tmp_path / "cache", {"val": [Row(0, 0, ("red",))]})
    record = load_manifest(made.directory).splits["val"]
    path = made.directory / record.file
    data = path.read_bytes()
    assert read_table(made.directory, record).answers == [("red",)]
    for place in {*range(0, len(data), 997), len(data) - 1}:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(CacheDamagedError, match=r"val\.h5: its bytes are not those"):
            read_whole(made.directory, record)


@pytest.mark.parametrize(
    "number", [*integrity.NOT_MAPPED, errno.EIO, errno.EACCES], ids=os.strerror
)
def test_what_cannot_be_mapped_is_read_and_what_fails_is_told(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have no maps; a failing disk is another matter."""

    def fail(path: Path) -> memoryview:
        raise OSError(number, os.strerror(number))

    made = make_cache(tmp_path / "cache", {"val": [Row(0, 0, ("red",))]})
    monkeypatch.setattr(integrity, "map_file", fail)
    record = load_manifest(made.directory).images[0]
    if number in (errno.EIO, errno.EACCES):
        with pytest.raises(CacheDamagedError, match=rf"cannot be read \({os.strerror(number)}\)"):
            integrity.open_shard(made.directory, "images", record)
    else:
        file = integrity.open_shard(made.directory, "images", record)
        assert len(file.texts("image_id")) == record.rows


def test_prefixes_of_no_shard_and_of_all(tmp_path: Path) -> None:
    made = make_cache(tmp_path / "cache", {"val": [Row(0, 0, ("red",))]})
    manifest = load_manifest(made.directory)
    prefixes = sum(record.prefixes for record in manifest.questions)
    for shards, length in ((0, 0), (None, prefixes)):
        parents, tokens = read_prefixes(made.directory, manifest, shards)
        assert (len(parents), len(tokens), parents.dtype) == (length, length, np.int64)
