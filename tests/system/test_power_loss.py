"""A loss of power after any sync leaves a cache that reads right and ends in the same bytes."""

import os
import random
from pathlib import Path

import pytest

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.cache.format.manifest import NAME
from frozen_vqa.cache.verify import check_file
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support.frozen import Images, Source, Text, files, picture
from tests.support.power import Names, left_behind, recorded

QUESTIONS = {
    "train": [VqaExample(1, 7, "ab", ("yes",)), VqaExample(2, "a", "abc", ("2",))],
    "val": [VqaExample(1, 3, "b", ("no",)), VqaExample(2, 9, "ax", ("red",))],
}
SHARD_BYTES = 450


def run(cache: Path, *splits: str) -> None:
    source = Source(QUESTIONS, {i: picture(seed) for seed, i in enumerate([7, "a", 3, 9])})
    plan = make_plan(source, splits=splits, text=Text())
    extract(
        source,
        plan,
        cache=cache,
        images=Images(),
        text=Text(),
        dtype="float32",
        batch_size=2,
        shard_bytes=SHARD_BYTES,
    )


def extended(cache: Path) -> None:
    """One split, then another, and the first again with other answers: every kind of write."""
    run(cache, "train")
    run(cache, "train", "val")


Recorded = tuple[dict[str, bytes], list[tuple[Names, Names]]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    root = tmp_path_factory.mktemp("undisturbed")
    with recorded(root) as disk:
        extended(root / "cache")
    return files(root / "cache"), disk.moments


@pytest.mark.stops
@pytest.mark.parametrize(
    "keep", ["safe", *(pytest.param(one, marks=pytest.mark.slow) for one in ("all", "some"))]
)
def test_a_loss_of_power_after_any_sync(
    keep: str, undisturbed: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, moments = undisturbed
    assert len(moments) > 40
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # power is lost once
    rng = random.Random(keep)
    for number, moment in enumerate(moments):
        cache = tmp_path / str(number) / "cache"
        left_behind(moment, cache.parent, keep=keep, rng=rng)
        if (cache / NAME).exists():
            manifest = load_manifest(cache)
            damage = [check_file(cache, manifest, record) for record in manifest.files]
            assert damage == [None] * len(manifest.files), number
            reader = FeatureCache(cache)
            for name in manifest.splits:
                reader.split(name)
        if number == len(moments) - 1:
            assert whole.items() <= files(cache).items()  # it was safe when the command ended
        extended(cache)
        assert files(cache) == whole, number
