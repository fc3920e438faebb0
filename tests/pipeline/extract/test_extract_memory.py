"""The memory of stage one: a batch that fits, batches read ahead, few shards being stored."""

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.disk.staging import StagedShard, stage_shard
from frozen_vqa.cache.format.shards import Shard, image_shard, question_shard
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.decoder import AHEAD
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.shard_queue import WRITERS
from frozen_vqa.pipeline.extract.speed.batch_size import choose_batch_size
from tests.support.extractions import (
    no_spot_checks,  # noqa: F401  (a fixture)
    note_decoded,
    plan_of,
    run,
    shards,
    source_of,
)
from tests.support.frozen import Images, Text, files


@pytest.mark.parametrize("memory", [1, 2, 3, 7])
def test_a_batch_that_does_not_fit_the_device_is_halved(memory: int, tmp_path: Path) -> None:
    run(tmp_path / "roomy", batch_size=8, shard_bytes=10**6)
    images = run(
        tmp_path / "tight", batch_size=8, shard_bytes=10**6, images=Images(memory=memory)
    ).images

    assert shards(tmp_path / "tight") == shards(tmp_path / "roomy")
    assert images.batches == {1: [1] * 8, 2: [2] * 4, 3: [2] * 4, 7: [4, 4]}[memory]


def test_a_batch_size_that_did_not_fit_is_not_tried_again(tmp_path: Path) -> None:
    """And is recorded, so that whoever goes on begins with what fits."""
    tried: list[int] = []
    images = Images(lambda: tried.append(len(images.batches)), memory=2)
    run(tmp_path, images=images, batch_size=4)

    assert images.batches == [2, 1, 2, 1, 2]  # of the shards of three, three and two
    assert len(tried) == len(images.batches) + 1
    manifest = load_manifest(tmp_path)
    assert [record.origin["batch_size"] for record in manifest.images] == [2, 2, 2]
    assert choose_batch_size(images, manifest, lambda: None) == 2


def test_a_picture_that_does_not_fit_the_device_alone_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="fake-vision: one picture of 12 pixels does not fit the memory of cpu"
    ):
        run(tmp_path, images=Images(memory=0))


def test_shards_are_stored_while_the_next_is_encoded_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are threads; so memory holds one more."""
    few = {"shard_bytes": 150}  # a picture each
    run(tmp_path / "whole", **few)
    all_begun = threading.Event()
    ahead: list[int] = []

    def before() -> None:
        if len(images.batches) == WRITERS:  # the batches of this many shards are done
            all_begun.set()

    def lay(*words: Any, **more: Any) -> StagedShard:
        assert all_begun.wait(60), "the encoder waits for the disk"
        ahead.append(len(images.batches))
        return stage_shard(*words, **more)

    images = Images(before)
    monkeypatch.setattr("frozen_vqa.pipeline.extract.shard_queue.stage_shard", lay)
    run(tmp_path / "cache", images=images, **few)

    assert files(tmp_path / "cache") == files(tmp_path / "whole")
    assert all(encoded <= shard + WRITERS + 1 for shard, encoded in enumerate(ahead[:8]))
    assert len(load_manifest(tmp_path / "cache").images) == 8


def test_pictures_are_read_few_batches_ahead_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded pictures are large: all of them at once would not fit the memory."""
    source = source_of()
    read_before_batch: list[int] = []
    decoded = note_decoded(monkeypatch)
    images = Images(lambda: read_before_batch.append(len(decoded)))
    plan = plan_of(source)
    extract(
        source, plan, cache=tmp_path, images=images, text=Text(), batch_size=1, shard_bytes=10**6
    )

    assert all(n <= i + 1 + AHEAD for i, n in enumerate(read_before_batch))
    assert len(read_before_batch) == 8


def test_features_are_forgotten_once_their_shard_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written from the features themselves: a shard needs memory once."""
    features: list[weakref.ref[Any]] = []
    most = 0

    def before() -> None:
        nonlocal most
        most = max(most, sum(one() is not None for one in features))

    def spy(module: str, make: Callable[..., Shard]) -> None:
        def build(spec: Any, new: Any, **more: Any) -> Shard:
            rows = new.patch_embeddings if make is image_shard else new.hidden_states
            features.append(weakref.ref(rows))
            shard = make(spec, new, **more)
            assert len(shard.pieces) == 1 or any(
                np.shares_memory(np.frombuffer(piece, np.uint8), rows) for piece in shard.pieces
            )
            return shard

        monkeypatch.setattr(f"frozen_vqa.pipeline.extract.{module}.{make.__name__}", build)

    spy("feature_encoder", image_shard)
    spy("extract", question_shard)
    run(tmp_path, images=Images(before), text=Text(before), shard_bytes=150)

    assert len(features) > 8
    assert most <= WRITERS
    assert not any(one() is not None for one in features)
