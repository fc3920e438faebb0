"""The names of all rows are those that the shards have; a damaged one is never told."""

from pathlib import Path

import pytest

from frozen_vqa.cache import CacheDamagedError, load_manifest
from frozen_vqa.cache.disk.integrity import open_shard
from frozen_vqa.cache.disk.row_names import names_by_shard, read_names
from frozen_vqa.cache.format.hdf5 import read_extents
from frozen_vqa.cache.format.records.files import KINDS, ShardKind
from frozen_vqa.cache.format.shards import NAMES
from tests.support.caches import Row, make_cache

ROWS = {"val": [Row(0, 0), Row(1, 1), Row(2, 0)]}


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_those_of_each_shard_from_any_one_on(tmp_path: Path, kind: ShardKind) -> None:
    make_cache(tmp_path, ROWS)
    manifest = load_manifest(tmp_path)
    shards = [open_shard(tmp_path, kind, one).texts(NAMES[kind]) for one in manifest.shards(kind)]
    assert sum(map(len, shards)) > 1
    for first in range(len(shards) + 1):
        assert list(names_by_shard(tmp_path, manifest, kind, first)) == shards[first:]
    assert read_names(tmp_path, manifest, kind) == [name for names in shards for name in names]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["utf8", "offsets"])
def test_each_flipped_byte_of_a_name_is_told_as_a_reader_tells_it(
    tmp_path: Path, kind: ShardKind, column: str
) -> None:
    make_cache(tmp_path, ROWS)
    manifest = load_manifest(tmp_path)
    record = manifest.shards(kind)[0]
    path = tmp_path / record.file
    extent = read_extents(record.datasets, record.bytes, "")[f"{NAMES[kind]}_{column}"]
    sound = path.read_bytes()
    for place in range(extent.offset, extent.offset + extent.nbytes, 3):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(CacheDamagedError) as expected:
            open_shard(tmp_path, kind, record)
        with pytest.raises(CacheDamagedError) as found:
            read_names(tmp_path, manifest, kind)
        assert str(found.value) == str(expected.value)


def test_a_shard_that_is_gone_or_cut_is_told(tmp_path: Path) -> None:
    make_cache(tmp_path, ROWS)
    manifest = load_manifest(tmp_path)
    path = tmp_path / manifest.images[0].file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheDamagedError, match=r"has .* bytes, the manifest needs"):
        read_names(tmp_path, manifest, "images")
    path.unlink()
    with pytest.raises(CacheDamagedError, match="is missing"):
        read_names(tmp_path, manifest, "images")
