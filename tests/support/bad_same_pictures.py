"""The rows of docs/bad-inputs.md about pictures under several names."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheDamagedError, CacheWriter, FeatureCache
from frozen_vqa.cache.disk.integrity import read_known_pictures
from frozen_vqa.cache.format import shards
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support.bad_inputs import LEFT_OUT, REFUSED, STORED, Row
from tests.support.caches import Row as Question
from tests.support.caches import make_cache
from tests.support.frozen import BAD, Images, Source, Text, picture

SPLITS = {"train": [Question(0, 0, ("red",)), Question(1, 1, ("red",))]}


def named(**pictures: bytes) -> Callable[[Path], Row]:
    """A case of a question about each of some pictures."""

    def store(folder: Path) -> Row:
        examples = [VqaExample(name, name, "what?", ("x",)) for name in pictures]
        source, text = Source({"val": examples}, pictures), Text()
        plan = make_plan(source, splits=["val"], text=text)
        cache = folder / "features"
        report = extract(source, plan, cache=cache, images=Images(), text=text, batch_size=2)
        if report.failures:
            wheres = " and ".join(failure.where for failure in report.failures)
            return LEFT_OUT, f"{wheres}: {report.failures[0].reason}"
        rows = FeatureCache(cache).manifest.image_rows
        return STORED, f"as {rows:,} of {len(pictures):,} pictures"

    return store


def _short_contents(folder: Path) -> Row:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "CONTENT", 8)
        made = make_cache(folder / "features", SPLITS)
    cache = FeatureCache(made.directory)
    with pytest.raises(CacheDamagedError) as caught:
        read_known_pictures(cache.directory, cache.manifest)
    return REFUSED, str(caught.value)


def with_ids(**ids: Any) -> Callable[[Path], Row]:
    """A case of a split that has these ids of its pictures."""

    def forge(folder: Path) -> Row:
        cache = FeatureCache(make_cache(folder / "features", SPLITS).directory)
        with CacheWriter(cache.directory, cache.spec) as writer:
            writer.set_split("train", replace(cache.split("train"), **ids))
        with pytest.raises(CacheDamagedError) as caught:
            FeatureCache(cache.directory).split("train")
        return REFUSED, str(caught.value)

    return forge


SAME: Mapping[str, Callable[[Path], Row]] = {
    "three files of the same content": named(a=picture(1), b=picture(1), c=picture(1)),
    "two files that differ in one byte behind the pixels": named(
        a=picture(1) + b"\0", b=picture(1) + b"\1"
    ),
    "two files of the same content, which is no picture": named(a=BAD, b=BAD),
    "two empty files": named(a=b"", b=b""),
    "contents of pictures of another length": _short_contents,
    "a split with ids for some of its pictures": with_ids(image_ids=["a"]),
    "a split with ids for more pictures than it has": with_ids(
        image_ids=["a", "b"], more_image_ids=[("c",)]
    ),
}
