"""The chunks of all ranks reach the cache, or the extraction says that one is missing."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import CacheError, CacheWriter, load_manifest
from frozen_vqa.cache.format.shards import Shard
from frozen_vqa.pipeline.extract import shard_queue
from frozen_vqa.pipeline.extract.shard_queue import ShardQueue
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


def test_a_failed_adoption_is_what_all_threads_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has moved already is missing for the next one, which would only say that."""
    failed = threading.Event()

    def adopt(*_: Any) -> int:
        if not failed.is_set():
            failed.set()
            raise CacheError("the disk is full")
        raise CacheError("no such file")

    real, real_stage = ShardQueue.share, shard_queue.stage_shard
    first = str(plan_of(source_of()).images[0])

    def stage(_cache: Path, _key: str, shard: Shard, **more: Any) -> Any:
        staged = real_stage(_cache, _key, shard, **more)
        assert first not in shard.names or failed.wait(60)  # so its own error would be raised
        return staged

    monkeypatch.setattr(shard_queue, "stage_shard", stage)

    @contextmanager
    def share(self: ShardQueue, kind: Any, chunks: Any) -> Iterator[Any]:
        with real(self, kind, chunks) as shared:
            monkeypatch.setattr(CacheWriter, "adopt", adopt)  # from the first own chunk on
            yield shared

    monkeypatch.setattr(ShardQueue, "share", share)
    with pytest.raises(CacheError, match="the disk is full"):
        run(tmp_path, shard_bytes=150)


def test_no_chunk_is_adopted_while_it_is_being_staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may be there before a sync of them fails, and then they are removed."""
    whole: set[str] = set()
    real_stage, real_adopt = shard_queue.stage_shard, CacheWriter.adopt

    def stage(cache: Path, key: str, *words: Any, **more: Any) -> Any:
        staged = real_stage(cache, key, *words, **more)
        time.sleep(0.01)  # and another thread adopts meanwhile
        whole.add(key)
        return staged

    def adopt(self: CacheWriter, kind: Any, keys: Sequence[str], known: Any) -> int:
        assert set(keys) <= whole or not known
        return real_adopt(self, kind, keys, known)

    monkeypatch.setattr(shard_queue, "stage_shard", stage)
    monkeypatch.setattr(CacheWriter, "adopt", adopt)
    run(tmp_path, shard_bytes=150)
    assert len(whole) > 8
