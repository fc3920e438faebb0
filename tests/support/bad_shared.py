"""The rows of docs/bad-inputs.md about links, leases and folders that others use as well."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.stores.stage import default_stage, open_stage
from tests.support.bad_inputs import Row
from tests.support.several_shards import write
from tests.support.stores import pull, push

REFUSED = "refused"


@cache
def _pushed() -> str:
    """Return the URL of a cache, which lies in a folder."""
    folder = Path(mkdtemp())
    write(folder / "cache")
    push(folder / "cache", f"file://{folder}/store")
    return f"file://{folder}/store"


@cache
def _cache() -> Path:
    folder = Path(mkdtemp())
    pull(folder / "to", url=_pushed())
    return folder / "to"


def case(make: Callable[[Path], object], use: Callable[[Path], object]) -> Callable[[Path], Row]:
    """A case of what lies in a folder, and of what is then done there."""

    def one(folder: Path) -> Row:
        make(folder)
        with pytest.raises(CacheError) as found:
            use(folder)
        return REFUSED, str(found.value).replace(_pushed(), "URL")

    return one


def _file(name: str, data: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return make


def _link(name: str, target: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)

    return make


def _push(folder: Path) -> None:
    push(_cache(), f"file://{folder}/store")


def _stage(folder: Path) -> None:
    open_stage(_pushed(), folder / "stage")


def _linked_stage(folder: Path) -> None:
    OwnFolder(folder / "stage", "a stage of caches at URLs", CacheError, "--stage").claim()
    (folder / "stage/file").symlink_to("/tmp")


def _no_home(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", "relative")
        patch.setattr(os.path, "expanduser", lambda path: path)
        default_stage()


SHARED: dict[str, Callable[[Path], Row]] = {
    "a link to nothing as a cache": case(
        _link("cache", "nowhere"), lambda folder: load_manifest(folder / "cache")
    ),
    "a link to nothing as the folder of a pull": case(
        _link("to", "nowhere"), lambda folder: pull(folder / "to", url=_pushed())
    ),
    "a link to nothing as a file:// URL": case(_link("store", "nowhere"), _push),
    "a link to nothing as --stage": case(_link("stage", "nowhere"), _stage),
    "a file as a file:// URL": case(_file("store", b"mine"), _push),
    "a link in place of a folder of a file:// URL": case(_link("store/leases", "."), _push),
    "another program's file among the leases": case(
        _file("store/leases/000012.json", b'{"house": 12}'), _push
    ),
    "a folder of one's own as --stage": case(_file("stage/notes.txt", b"mine"), _stage),
    "a link in place of a folder of a stage": case(_linked_stage, _stage),
    "no home folder, and no --stage": case(lambda folder: None, _no_home),
    "another program's cache.json at the URL": case(
        _file("store/cache.json", b'{"name": "a web site"}'), _push
    ),
}
