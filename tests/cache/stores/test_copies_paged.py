"""A cache whose records lie in pages goes to a URL, is read there, and comes back."""

from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.cache.stores.stage import open_stage
from frozen_vqa.cache.verify import check_copies, verify
from tests.support import stores
from tests.support.paged import small_pages
from tests.support.several_shards import PICTURES, ROWS, read, write
from tests.support.stores import URL, content, memory, objects, pull, push


def test_pages_are_objects_as_shards_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.forget()
    small_pages(monkeypatch, 2)
    write(tmp_path / "cache")
    with memory(monkeypatch):
        push(tmp_path / "cache")
        assert sum("manifest/" in name for name in objects()) == 2
        assert push(tmp_path / "cache").sent == 0
        pull(tmp_path / "pulled")
        assert content(tmp_path / "pulled") == content(tmp_path / "cache")
        manifest = load_manifest(tmp_path / "pulled")
        assert not check_copies(tmp_path / "pulled", manifest)
        assert not [bad for _, bad in verify(tmp_path / "pulled", manifest) if bad]
        staged = FeatureCache(open_stage(URL, folder=tmp_path / "stage"))
        assert np.array_equal(read(staged, list(range(ROWS))), PICTURES)
        pull(tmp_path / "part", "val")
        part = load_manifest(tmp_path / "part")
        assert set(part.splits) == {"val"}
        assert FeatureCache(tmp_path / "part").manifest.absent == part.absent != ()
    stores.forget()
