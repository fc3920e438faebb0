"""Another folder as a store: whole objects, create-only, no link followed to a device."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.stores.copies import LEFTOVER
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.store import GoneError
from tests.support.several_shards import write
from tests.support.stores import content, pull, push


def test_a_cache_goes_there_and_back(tmp_path: Path) -> None:
    write(tmp_path / "cache")
    url = f"file://{tmp_path}/store"
    assert push(tmp_path / "cache", url).sent == 7
    assert push(tmp_path / "cache", url).sent == 0
    pull(tmp_path / "back", url=url)
    assert content(tmp_path / "back") == content(tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        *("README.md", "cache.json", "images", "questions", "splits"),
    ]


def test_objects_are_made_once_and_read_as_far_as_asked(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    assert store.create("images/a", b"12345")
    assert not store.create("images/a", b"other")
    assert store.read("images/a", most=3) == b"1234"
    store.replace("images/a", b"new")
    assert store.read("images/a", most=9) == b"new"
    assert store.sizes("images") == {"images/a": 3}
    assert store.sizes("nothing") == {}
    with pytest.raises(GoneError, match="has no such object"):
        store.read("images/b", most=1)
    os.mkfifo(tmp_path / "store" / "images" / "pipe")
    with pytest.raises(StoreError, match="not a regular file"):
        store.read("images/pipe", most=1)
    assert store.sizes("images") == {"images/a": 3}
    (tmp_path / "store" / "images" / "a.00000000.partial").write_bytes(b"of a killed process")
    store.replace("images/a", b"newer")
    assert set(store.sizes("images")) == {"images/a"}
    store.remove(["images/a", "images/b"])
    assert store.sizes("images") == {}


def test_what_a_kill_leaves_is_known_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each call that makes a file last or gives it its name."""
    store, name = open_store(f"file://{tmp_path}/store"), f"images/{'0' * 32}.h5"
    left: set[str] = set()
    for call, made in (("fsync", os.fsync), ("replace", os.replace), ("link", os.link)):

        def look(*given: object, real: Callable[..., object] = made) -> object:
            left.update(f"images/{path.name}" for path in (tmp_path / "store").glob("images/*"))
            return real(*given)

        monkeypatch.setattr(os, call, look)
    assert store.create(name, b"12345")
    left -= {name}
    assert len(left) >= 2
    assert all(LEFTOVER.fullmatch(one) for one in left)
    for one in left:
        (tmp_path / "store" / one).write_bytes(b"of a killed process")
    store.remove([name])
    assert store.sizes("images") == {}
