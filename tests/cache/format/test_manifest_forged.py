"""Every field of cache.json with every wrong value, and a digest that fits: read, or one line."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheDamagedError, CacheError
from frozen_vqa.cache.format.manifest import Failure, Manifest, _digest_body, parse_manifest
from frozen_vqa.cache.format.parts import Part, find_parts, labels
from tests.support.caches import make_spec
from tests.support.manifests import SMALL
from tests.support.wrong_values import forgeries

ORIGIN = {
    **{"dataset": "hub:x", "columns": {"image": "a"}, "splits": ["val"], "digests": {"val": "ab"}},
    **{"limit": None, "batch_size": 32, "without_picture": [[7, "a.png"]]},
}
WHOLE = replace(
    SMALL,
    images=(replace(SMALL.images[0], origin=ORIGIN),),
    splits={"val": replace(SMALL.splits["val"], origin=ORIGIN)},
    failures=(Failure("9", "row 9", "truncated", "val"),),
)


SEVERAL = replace(
    WHOLE,
    spec=make_spec(
        vision_dim=5,
        text_dim=9,
        dtype="int8",
        more_vision=(Part({"model": "b"}, 2), Part({"model": "b", "layer": -3}, 1)),
        more_text=(Part({"model": "c", "layer": -2}, 4),),
        layers={"b": 6, "c": 7},
    ),
    images=(),
    questions=(),
    splits={},
)
"""Its features have several parts."""


@pytest.mark.parametrize("manifest", [WHOLE, SEVERAL], ids=["one part", "several"])
def test_a_forged_manifest_is_read_or_one_line(manifest: Manifest) -> None:
    body, refused = json.loads(manifest.to_json()), []
    del body["xxh3"]
    tried = [forged for _, forged in forgeries(body)]
    for forged in tried:
        sealed = {**forged, "xxh3": _digest_body(forged)} if isinstance(forged, dict) else forged
        try:
            spec = parse_manifest(Path("cache.json"), json.dumps(sealed).encode()).spec
            assert sum(spec.vision_dims) == spec.vision_dim
            for part in labels(spec.vision_parts):  # whatever it is called
                with suppress(CacheError):
                    find_parts(part, spec.vision_parts, spec.layers, "here")
            assert spec.take([0], [0]).settings().items() <= spec.settings().items()
        except CacheError as error:
            refused.append(str(error))
    assert 0.3 * len(tried) < len(refused) < len(tried)
    for line in refused:
        assert line.startswith("cache.json: ")
        assert line.isprintable()
        assert len(line) < 600


@pytest.mark.parametrize("name", ORIGIN)
def test_what_an_origin_says_has_its_type(name: str) -> None:
    body = json.loads(replace(WHOLE, images=()).to_json())
    body["splits"]["val"]["origin"] = {"more": 1, name: 1.5}
    del body["xxh3"]
    data = json.dumps({**body, "xxh3": _digest_body(body)}).encode()
    with pytest.raises(CacheError, match=rf"splits\.val\.origin\.{name} is 1\.5, and .* is needed"):
        parse_manifest(Path("cache.json"), data)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("images", "rows"), ("questions", "rows"), ("questions", "prefixes"), ("splits", "rows")],
)
def test_no_file_is_said_to_hold_more_than_its_bytes(kind: str, count: str) -> None:
    spec, own = WHOLE.spec, getattr(WHOLE, kind)
    key, record = next(iter(own.items() if kind == "splits" else enumerate(own)))
    row = {"images": spec.image_row_bytes, "prefixes": spec.prefix_row_bytes}
    most = record.bytes // row.get(kind, row.get(count, 1))
    for rows in (most, most + 1, 10**12):
        forged = replace(record, **{count: rows})
        files = {**own, key: forged} if kind == "splits" else (forged, *own[1:])
        text = replace(WHOLE, **{kind: files}).to_json().encode()
        if rows == most:
            assert parse_manifest(Path("cache.json"), text)
            continue
        with pytest.raises(CacheDamagedError, match=f"{record.file}: .* bytes cannot hold"):
            parse_manifest(Path("cache.json"), text)
