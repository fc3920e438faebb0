"""A page from a stranger with every wrong value, and a digest that fits: read, or one line."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheDamagedError, Manifest
from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.manifest import PAGE, _digest_body
from frozen_vqa.cache.format.records.pages import page_bytes
from tests.support.manifests import shard
from tests.support.paged import made_up, small_pages, write
from tests.support.wrong_values import forgeries

ORIGIN = {"dataset": "x", "limit": None, "drift": 0.5}
WHOLE = Manifest(
    made_up(0).spec,
    images=[replace(shard(f"images/{i:05d}.h5", 2, 5000), origin=ORIGIN) for i in range(3)],
)


def forged_pages(data: bytes) -> Iterator[bytes]:
    lines = data.split(b"\n")
    for place in (0, 1):
        for _, forged in forgeries(json.loads(lines[place])):
            yield b"\n".join([*lines[:place], json.dumps(forged).encode(), *lines[place + 1 :]])
    yield from (b"", b"\n", b"\n".join(lines[:-1]), data + b"\n", b"[" * 10**5, b"\xff" + data)
    for text in (b"1e999", b"NaN"):
        yield data.replace(b"5000", text, 1)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_pages(monkeypatch)
    write(tmp_path, WHOLE)
    return tmp_path


def test_a_forged_page_is_read_or_one_line(directory: Path) -> None:
    manifest = load_manifest(directory)
    (page,) = manifest.pages
    path = directory / page.file
    tried, refused = list(forged_pages(path.read_bytes())), []
    for data in tried:
        path.write_bytes(data)
        listed = replace(page, xxh3=digest(data), bytes=max(1, len(data)))
        forged = manifest.shards("images").with_page(0, listed)
        forged.source and forged.source._pages.clear()  # which keeps what it has read
        try:
            assert len(tuple(forged)) == 3
            forged.origins()
        except CacheDamagedError as error:
            refused.append(str(error))
    assert 0.5 * len(tried) < len(refused) < len(tried)
    for line in refused:
        assert line.startswith(f"{path}: not a page of a cache (")
        assert line.endswith("). Take another copy of the cache.")
        assert line.isprintable()
        assert len(line) < 700


def test_every_forged_record_of_a_page_is_read_or_one_line(directory: Path) -> None:
    path = directory / "cache.json"
    body = json.loads(path.read_bytes())
    del body["xxh3"]
    tried, refused = [forged for _, forged in forgeries(body["pages"])], []
    for forged in tried:
        found = {**body, "pages": forged}
        path.write_text(json.dumps({**found, "xxh3": _digest_body(found)}))
        try:
            manifest = load_manifest(directory)
            assert len(manifest.file_names) <= 5
        except CacheDamagedError as error:
            refused.append(str(error))
    assert 0.5 * len(tried) < len(refused)
    for line in refused:
        assert line.startswith(f"{directory}/")
        assert line.isprintable()
        assert len(line) < 1000


@pytest.mark.parametrize(
    "wrong", [{"rows": 7}, {"shards": 4}, {"prefixes": 1}, {"shard_bytes": 2**40}]
)
def test_a_page_holds_what_cache_json_says(wrong: dict[str, int], directory: Path) -> None:
    shards = load_manifest(directory).shards("images")
    forged = shards.with_page(0, replace(shards.pages[0], **wrong))
    with pytest.raises(CacheDamagedError, match=r"it does not hold 4|hold other rows or bytes"):
        forged.column("rows")


@pytest.mark.parametrize(
    "wrong",
    [
        {"shards": 10**9},
        {"shards": 0},
        {"bytes": 2**40},
        {"rows": 10**14},
        {"file": "manifest/../cache.json"},
        {"file": "manifest/splits-00000.json"},
        {"file": "images/00000.h5"},
    ],
)
def test_a_billion_shards_are_refused_before_a_page_is_read(
    wrong: dict[str, int], directory: Path
) -> None:
    path = directory / "cache.json"
    body = json.loads(path.read_bytes())
    del body["xxh3"]
    body["pages"]["images"][0] |= wrong
    path.write_text(json.dumps({**body, "xxh3": _digest_body(body)}))
    with pytest.raises(CacheDamagedError, match=r"cache\.json: not a cache manifest \("):
        load_manifest(directory)


def test_a_page_repeats_nothing_that_its_shards_share() -> None:
    """A whole page of the same pictures takes less than half of the bytes of its records."""
    extents = {f"dataset {i}": f"float16 324x256x768 at {i * 2**20}" for i in range(12)}
    one = shard("images/00000.h5", 324, 2**27)
    one = replace(one, datasets=extents, origin={"images": "/data/" * 30})
    records = [replace(one, file=f"images/{i:05d}.h5") for i in range(PAGE)]
    assert len(page_bytes(records)) < 0.2 * len(json.dumps(list(map(asdict, records))))
