"""Files that cannot be read as a whole are one sentence."""

from pathlib import Path

import pytest

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.disk.integrity import read_table
from tests.support.caches import Row, make_cache


def test_a_file_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(path: Path) -> bytes:
        raise MemoryError

    made = make_cache(tmp_path / "cache", {"val": [Row(0, 0, ("red",))]})
    record = load_manifest(made.directory).splits["val"]
    monkeypatch.setattr("frozen_vqa.cache.disk.integrity.read_file", too_large)
    with pytest.raises(CacheError, match=r"val\.h5: its [0-9,]+ bytes do not fit in memory"):
        read_table(made.directory, record)
