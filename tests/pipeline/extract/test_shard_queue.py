"""The chunks of all ranks reach the cache, or the extraction says that one is missing."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.format.shards import Shard
from frozen_vqa.pipeline.system.ranks import Ranks
from tests.support import extractions
from tests.support.extractions import plan_of, run, shards, source_of

no_spot_checks = extractions.no_spot_checks  # a fixture


class WithoutTheOther(Ranks):
    """The first of two ranks, where the files of the second go to another file system."""

    def largest(self, *numbers: int) -> tuple[int, ...]:
        return numbers

    def total(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers


def test_a_chunk_of_another_rank_that_cannot_be_seen_is_an_error(tmp_path: Path) -> None:
    """No split may say that it is complete then, and the next extraction makes it so."""
    with pytest.raises(CacheError, match="another rank has written cannot be seen here"):
        run(tmp_path / "cache", ranks=WithoutTheOther(0, 2))
    assert not load_manifest(tmp_path / "cache").splits

    run(tmp_path / "cache")
    run(tmp_path / "alone")
    assert shards(tmp_path / "cache") == shards(tmp_path / "alone")


def test_the_first_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards are stored at a time, and what fails last may fail because of the first."""
    first, second_failed = str(plan_of(source_of()).images[0]), threading.Event()

    def fail(_cache: Path, _key: str, shard: Shard, **_: Any) -> None:
        if first in shard.names:
            assert second_failed.wait(60)
            raise CacheError("the first")
        second_failed.set()
        raise CacheError("another")

    monkeypatch.setattr("frozen_vqa.pipeline.extract.shard_queue.stage_shard", fail)
    with pytest.raises(CacheError, match="the first"):
        run(tmp_path, shard_bytes=150)
