"""The memory of stage one: a batch that fits, one batch read ahead, one shard being stored."""

import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.disk.staging import stage_shard
from frozen_vqa.cache.format.shards import Shard, image_shard, question_shard
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.batch_size import choose_batch_size
from frozen_vqa.pipeline.extract.extract import extract
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


def test_a_shard_is_stored_while_the_next_is_encoded_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    next_begun = threading.Event()
    ahead: list[int] = []

    def before() -> None:
        if len(images.batches) == 2:  # those of the first shard
            next_begun.set()

    def lay(*words: Any, **more: Any) -> None:
        assert next_begun.wait(60), "the encoder waits for the disk"
        stage_shard(*words, **more)
        if more["kind"] == "images":
            ahead.append(len(images.batches))

    images = Images(before)
    monkeypatch.setattr("frozen_vqa.pipeline.extract.shard_queue.stage_shard", lay)
    run(tmp_path / "cache", images=images)

    assert files(tmp_path / "cache") == files(tmp_path / "whole")
    assert ahead[0] <= 4  # batches of two shards
    assert len(ahead) == 3


def test_pictures_are_read_one_batch_ahead_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded pictures are large: all of them at once would not fit the memory."""
    source = source_of()
    read_before_batch: list[int] = []
    decoded = note_decoded(monkeypatch)
    images = Images(lambda: read_before_batch.append(len(decoded)))
    plan = plan_of(source)
    extract(
        source, plan, cache=tmp_path, images=images, text=Text(), batch_size=2, shard_bytes=10**6
    )

    assert all(n <= 2 * (i + 2) for i, n in enumerate(read_before_batch))
    assert len(read_before_batch) == 4


def test_features_are_forgotten_once_their_shard_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard has a copy of them; with both in memory, a chunk would need it twice."""
    features: list[weakref.ref[Any]] = []
    kept: list[bool] = []
    encoding_may_go_on = threading.Event()
    encoding_may_go_on.set()

    def before() -> None:
        assert encoding_may_go_on.wait(60)

    def lay(*words: Any, **more: Any) -> None:
        encoding_may_go_on.clear()
        deadline = time.monotonic() + 2  # the main thread may be on its way to the next chunk
        while features[-1]() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        kept.append(features[-1]() is not None)
        encoding_may_go_on.set()
        stage_shard(*words, **more)

    def spy(module: str, make: Callable[..., Shard]) -> None:
        def build(spec: Any, new: Any, **more: Any) -> Shard:
            encoding_may_go_on.clear()
            features.append(weakref.ref(new))
            return make(spec, new, **more)

        monkeypatch.setattr(f"frozen_vqa.pipeline.extract.{module}.{make.__name__}", build)

    spy("feature_encoder", image_shard)
    spy("extract", question_shard)
    monkeypatch.setattr("frozen_vqa.pipeline.extract.shard_queue.stage_shard", lay)
    run(tmp_path, images=Images(before), text=Text(before))

    assert len(kept) > 4
    assert not any(kept)
