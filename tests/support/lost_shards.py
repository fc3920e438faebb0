"""A cache of which a test loses shards."""

from pathlib import Path

import pytest

from frozen_vqa.cache import load_manifest
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import Id
from tests.support.frozen import BAD, IMAGE_IDS, SPLITS, Images, Source, Text, files, picture

FLOAT32 = "float32"


def source_of(*bad: Id) -> Source:
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    return Source(SPLITS, pictures | dict.fromkeys(bad, BAD))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    source = source_of(3)
    plan = make_plan(source, splits=["train", "val"], text=Text())
    extract(
        source, plan, cache=tmp_path, images=Images(), text=Text(), dtype=FLOAT32, batch_size=2,
        shard_bytes=450,
    )  # fmt: skip
    assert len(load_manifest(tmp_path).images) == 3
    assert len(load_manifest(tmp_path).questions) >= 3
    return tmp_path, files(tmp_path)


def shards(whole: dict[str, bytes]) -> list[str]:
    return sorted(name for name in whole if name.startswith(("images/", "questions/")))
