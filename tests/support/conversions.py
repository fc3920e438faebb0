"""Caches to convert, and what a conversion is to give."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import LeftOut
from tests.support.frozen import BAD, IMAGE_IDS, SPLITS, Images, Source, Text, files, picture

BYTES = {"float32": 450, "float16": 210, "bfloat16": 210, "int8": 204}
"""Of a shard: three pictures or six states, whatever the dtype."""

ORIGIN: dict[str, Json] = {"dataset": "shapes", "batch_size": 2}


def extracted(
    directory: Path,
    dtype: str,
    *splits: str,
    images: Images | None = None,
    bad: tuple = (3, 8),
    origin: dict[str, Json] = ORIGIN,
    shard_bytes: int | None = None,
    pool: int = 1,
) -> Path:
    """Make a cache, with two pictures that cannot be read and a question that cannot be used."""
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    unusable = {"val": [LeftOut(9, "line 9", "no question")]}
    source = Source(SPLITS, pictures | dict.fromkeys(bad, BAD), unusable)
    plan = make_plan(source, splits=splits or ("train", "val"), text=Text())
    extract(
        source, plan, cache=directory, images=images or Images(), text=Text(), dtype=dtype,
        pool=pool, batch_size=2, shard_bytes=shard_bytes or BYTES[dtype], origin=origin,
    )  # fmt: skip
    return directory


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is lost here, and a sync takes longer than all else."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Wide(NamedTuple):
    """A cache in float32, and what an extraction into int8 gives in its place."""

    source: Path
    int8: dict[str, bytes]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Wide:
    place = tmp_path_factory.mktemp("convert")
    return Wide(extracted(place / "source", "float32"), files(extracted(place / "int8", "int8")))
