"""The rows of docs/bad-inputs.md about pages, which list the shards of large caches."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheError, FeatureCache, load_manifest
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.manifest import _digest_body
from frozen_vqa.cache.verify import check_copies
from tests.support import paged
from tests.support.bad_caches import TOLD
from tests.support.bad_inputs import REFUSED, Row
from tests.support.several_shards import write

PAGE = "manifest/images-00000.json"
BOTH = (PAGE, "manifest/images-00000.copy.json")
Change = Callable[[Path], object]


@cache
def template() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    with pytest.MonkeyPatch.context() as patch:
        paged.small_pages(patch, 2)
        write(folder / "cache")
    return folder / "cache"


def make(folder: Path) -> Path:
    return Path(shutil.copytree(template(), folder / "cache"))


def opened(change: Change) -> Callable[[Path], Row]:
    """A case that a reader refuses."""

    def case(folder: Path) -> Row:
        change(place := make(folder))
        with pytest.raises(CacheError) as raised:
            FeatureCache(place)
        return REFUSED, str(raised.value)

    return case


def told(name: str, change: Callable[[Path], object]) -> Callable[[Path], Row]:
    """A case that a reader does without, and `verify-cache` names."""

    def case(folder: Path) -> Row:
        cache = make(folder)
        change(cache / name)
        assert FeatureCache(cache).image_ids()
        (damage,) = check_copies(cache, load_manifest(cache))
        return TOLD, f"{cache / damage.file}: {damage.reason}"

    return case


def each(change: Callable[[Path], object]) -> Change:
    return lambda cache: [change(cache / name) for name in BOTH]


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])


def listed(**changes: Any) -> Change:
    """Change what cache.json says of a page, with its digest."""

    def change(cache: Path) -> None:
        body = json.loads((cache / "cache.json").read_bytes())
        del body["xxh3"]
        body["pages"]["images"][0] |= changes
        text = json.dumps({**body, "xxh3": _digest_body(body)})
        (cache / "cache.json").write_text(text)

    return change


def forged(change: Callable[[bytes], bytes]) -> Change:
    """Change a page, and let cache.json have its digest."""

    def forge(cache: Path) -> None:
        data = change((cache / PAGE).read_bytes())
        (cache / PAGE).write_bytes(data)
        listed(xxh3=digest(data), bytes=len(data))(cache)

    return forge


def head(change: Callable[[dict[str, Any]], object]) -> Change:
    def edit(data: bytes) -> bytes:
        first, *rest = data.split(b"\n")
        change(found := json.loads(first))
        return b"\n".join([json.dumps(found).encode(), *rest])

    return forged(edit)


def listing_none(folder: Path) -> Row:
    """A line that is no record is found when its shard is asked for."""
    cache = make(folder)
    forged(lambda data: data.replace(b'\n["', b'\n[["', 1))(cache)
    shards = load_manifest(cache).shards("images")
    with pytest.raises(CacheError) as raised:
        shards[0]
    assert shards.column("rows")
    return REFUSED, str(raised.value)


PAGES: dict[str, Callable[[Path], Row]] = {
    "page: missing": told(PAGE, Path.unlink),
    "page: one bit flipped": told(PAGE, flip),
    "copy of a page: missing": told(BOTH[1], Path.unlink),
    "copy of a page: one bit flipped": told(BOTH[1], flip),
    "page and copy: missing": opened(each(Path.unlink)),
    "page and copy: one bit flipped": opened(each(flip)),
    "page of a billion shards": opened(listed(shards=10**9)),
    "page of a terabyte": opened(listed(bytes=2**40)),
    "page elsewhere": opened(listed(file="manifest/../../secret.json")),
    "page with more rows than its shards": opened(listed(rows=5)),
    "page of another length": opened(listed(shards=3)),
    "page that is empty": opened(forged(lambda data: b"\n")),
    "page that lists a file elsewhere": opened(
        head(lambda found: found["file"].__setitem__(0, "../secret.h5"))
    ),
    "page whose shard holds more than its bytes": opened(
        head(lambda found: found["rows"].__setitem__(0, 10**12))
    ),
    "page with a line that is no record": listing_none,
}
