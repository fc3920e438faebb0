"""Another folder as a store: whole objects, create-only, no link followed to a device."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.stores.copies import LEFTOVER
from frozen_vqa.cache.stores.folder import NO_LINKS
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


CALLS = ("open", "link", "replace", "unlink", "scandir", "mkdir", "fsync", "write", "rmdir")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ENOENT)


@pytest.mark.parametrize("call", CALLS)
def test_a_disk_that_fails_at_any_call_gives_one_sentence(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{tmp_path}/store")
    does: dict[str, Callable[[], object]] = {
        "create": lambda: store.create("images/new", b"1"),
        "replace": lambda: store.replace("images/a", b"2"),
        "remove": lambda: store.remove(["images/a"]),
        "sizes": lambda: store.sizes("images"),
        "read": lambda: store.read("images/a", most=9),
    }
    for code in ERRORS:
        for does_it in does.values():
            store.create("images/a", b"1")

            def fail(*_: object, code: int = code, **__: object) -> None:
                raise OSError(code, os.strerror(code))

            with monkeypatch.context() as patch:
                patch.setattr(os, call, fail)
                with suppress(StoreError):
                    does_it()


def test_what_goes_while_a_folder_is_listed_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of another process is renewed under another name each time."""
    store = open_store(f"file://{tmp_path}/store")
    for name in "ab":
        store.create(f"leases/{name}", b"1")
    real = os.scandir

    @contextmanager
    def scandir(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with real(path) as entries:
            found = list(entries)
        (path / "a").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scandir)
    assert store.sizes("leases") == {"leases/b": 1}


@pytest.mark.parametrize("code", sorted(NO_LINKS))
def test_a_disk_without_hard_links_makes_objects_once(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    store = open_store(f"file://{tmp_path}/store")
    assert store.create("images/a", b"12345")
    assert not store.create("images/a", b"other")
    assert store.read("images/a", most=9) == b"12345"
    assert store.sizes("images") == {"images/a": 5}
    assert len([*tmp_path.glob("store/images/*")]) == 1


def test_nothing_is_changed_behind_a_link_and_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    (far / "a").write_bytes(b"somebody's")
    store = open_store(f"file://{tmp_path}/store")
    store.create("splits/b", b"1")
    (tmp_path / "store" / "images").symlink_to(far)
    changes: list[Callable[[], object]] = [
        lambda: store.create("images/new", b"1"),
        lambda: store.replace("images/a", b"1"),
        lambda: store.remove(["images/a"]),
    ]
    for change in changes:
        with pytest.raises(StoreError, match="is a link, perhaps to somebody else's files"):
            change()
    assert [path.read_bytes() for path in far.iterdir()] == [b"somebody's"]
    assert store.read("images/a", most=99) == b"somebody's"  # as a share may be laid out
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(StoreError, match="dangling is a link to nowhere, which is not there"):
        open_store(f"file://{tmp_path}/dangling").create("images/a", b"1")
    with pytest.raises(StoreError, match="No such file or directory"):  # no folder can be made
        open_store("file:///proc/nothing").create("images/a", b"1")


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for below in ("", "/a", "/a/b"):
        store = open_store(f"file://{tmp_path}/file{below}")
        calls: list[Callable[[], object]] = [
            lambda store=store: store.read("cache.json", most=1),
            lambda store=store: store.create("images/a", b""),
            lambda store=store: store.replace("cache.json", b""),
        ]
        for call in calls:
            with pytest.raises(StoreError, match=r"file is no folder, and one is needed there"):
                call()
