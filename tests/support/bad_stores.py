"""The rows of docs/bad-inputs.md about caches at a URL: each case asks a store in memory."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from frozen_vqa.cache import CacheError, FeatureCache, load_manifest
from frozen_vqa.cache.format.manifest import Manifest
from frozen_vqa.cache.stores.copies import object_name
from frozen_vqa.cache.stores.open_store import open_store
from frozen_vqa.cache.stores.stage import open_stage
from tests.support import stores
from tests.support.bad_inputs import STORED, Row
from tests.support.several_shards import write
from tests.support.stores import URL, Flaky, memory, pull, push

REFUSED = "refused"


@cache
def _cache() -> Path:
    folder = Path(mkdtemp()) / "cache"
    write(folder)
    return folder


def address(text: str) -> Callable[[Path], Row]:
    """A case of a URL that is no address of a store."""

    def case(folder: Path) -> Row:
        with pytest.raises(CacheError) as found:
            open_store(text)
        return REFUSED, str(found.value)

    return case


def changed(
    name: Callable[[Manifest], str],
    data: Callable[[Manifest], bytes | None],
    *,
    read: Callable[[Path], object] = lambda folder: pull(folder / "to"),
    flaky: Flaky | None = None,
) -> Callable[[Path], Row]:
    """A case of a store in which an object was changed after the push."""

    def case(folder: Path) -> Row:
        stores.forget()
        manifest, patch = load_manifest(_cache()), pytest.MonkeyPatch()
        with memory(patch) as store:
            push(_cache())
            path = f"/bucket/vqa/{name(manifest)}"
            if (new := data(manifest)) is not None:
                store.pipe_file(path, new, chunksize=0)
            else:
                store.rm_file(path)
        try:
            with memory(patch, flaky):
                read(folder)
        except CacheError as error:
            return REFUSED, str(error)
        finally:
            stores.forget()
        return STORED, "the same bytes come, with a few more requests"

    return case


def _first(manifest: Manifest) -> str:
    return object_name(manifest.images[0])


def _manifest(_: Manifest) -> str:
    return "cache.json"


def _forged(**changes: object) -> Callable[[Manifest], bytes]:
    def forge(manifest: Manifest) -> bytes:
        record = replace(manifest.images[0], **changes)  # type: ignore[arg-type]
        return manifest.with_shard("images", 0, record).to_json().encode()

    return forge


def _same(manifest: Manifest) -> bytes:
    return manifest.to_json().encode()


def _no_other(folder: Path) -> None:
    """Push while another machine holds the lease."""
    store = open_store(URL)
    holder = {"host": "elsewhere", "boot": "b", "pid": 7, "started": "1", "since": "today"}
    alive = {"holder": holder, "alive": 2**39}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frozen_vqa.cache.stores.lease.time.time", lambda: 2.0**39)
        store.create("leases/000000.json", json.dumps(alive).encode())
        push(_cache())


AT_URLS = {
    "a URL of an unknown kind": address("ftp://host/vqa"),
    "a URL with a password": address("s3://key:secret@bucket/vqa"),
    "a signed URL": address("s3://bucket/vqa?X-Amz-Signature=0123"),
    "a URL that leads out of its bucket": address("s3://bucket/../other"),
    "a model of the Hub in place of a data set": address("hf://user/name"),
    "no cache at the URL": changed(_manifest, lambda _: None),
    "a manifest that was changed": changed(
        _manifest, lambda one: _same(one).replace(b"made-up", b"mad-eup")
    ),
    "a manifest of another format": changed(_manifest, lambda one: b'{"format": 99, "xxh3": ""}'),
    "a shard with a digest that is a path": changed(_manifest, _forged(xxh3="../../x")),
    "a shard of a terabyte, says the manifest": changed(_manifest, _forged(bytes=1 << 40)),
    "an object that is gone": changed(_first, lambda _: None),
    "an object of other bytes": changed(_first, lambda one: bytes(one.images[0].bytes)),
    "an object that is longer than it should be": changed(_first, lambda _: bytes(1 << 20)),
    "a store that fails now and then, and cuts answers": changed(
        _manifest, _same, flaky=Flaky(fails=0.1, cuts=0.1, seed=3)
    ),
    "a store that never answers": changed(_manifest, _same, flaky=Flaky(fails=1.0)),
    "another writer at the URL": changed(_manifest, _same, read=_no_other),
    "a split that is not there": changed(
        _manifest, _same, read=lambda folder: pull(folder / "to", "dev")
    ),
    "a stage that is smaller than a shard": changed(
        _manifest,
        _same,
        read=lambda folder: FeatureCache(open_stage(URL, folder / "stage", room=9)).questions,
    ),
}
