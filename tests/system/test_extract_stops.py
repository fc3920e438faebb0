"""Stopped, killed or on a full disk, stage one loses no finished shard, and a rerun goes on."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheError, FeatureCache, load_manifest
from frozen_vqa.pipeline.extract.models.several import cache_spec
from frozen_vqa.pipeline.extract.speed.throughput import read_throughputs
from frozen_vqa.pipeline.sources.example import Id
from tests.support.extractions import (
    IMAGE_BYTES,
    STATE_BYTES,
    TRAIN,
    VAL,
    Stopped,
    check_cache,
    no_spot_checks,  # noqa: F401  (a fixture)
    plan_of,
    prefixes_of,
    run,
    source_of,
    stop_at,
)
from tests.support.frozen import Images, Text, files, nothing, several
from tests.support.repository import ROOT

COPIES: dict[Id, Id] = {5: "a", 3: 7, 6: 9}
"""Ids whose pictures have another id as well; that of "a" cannot be read, and one is in "val"."""


def single(before: Callable[[], None] = nothing) -> dict[str, Any]:
    return {"images": Images(before), "text": Text(before)}


def stops(cache: Path, number: int, encoders: Callable[..., dict[str, Any]]) -> bool:
    """Run until the n-th encoder call; return whether there was one."""
    try:
        run(cache, bad=("a",), same=COPIES, **encoders(stop_at(number)))
    except Stopped:
        return True
    return False


@pytest.mark.stops
@pytest.mark.parametrize(
    ("encoders", "step"),
    [(single, 1), (several, 7), pytest.param(several, 1, marks=pytest.mark.slow)],
)
def test_stopped_at_any_encoder_call_a_rerun_ends_in_the_same_bytes(
    encoders: Callable[..., dict[str, Any]], step: int, tmp_path: Path
) -> None:
    """With an unreadable picture, whose record must not depend on the stop either."""
    run(tmp_path / "undisturbed", bad=("a",), same=COPIES, **encoders())
    expected = files(tmp_path / "undisturbed")
    for number in count(step=step):
        cache = tmp_path / str(number)
        if not stops(cache, number, encoders):
            break
        if (cache / "cache.json").exists():
            FeatureCache(cache)
        stops(cache, 1, encoders)  # and once more, a bit later
        run(cache, bad=("a",), same=COPIES, **encoders())
        assert files(cache) == expected, f"stopped at call {number}"
    assert number >= 8


def die_at_sync(number: int) -> None:
    synced, real = count(), os.fsync

    def fsync(handle: int) -> None:
        if next(synced) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = fsync


def kill_at_every_sync(directory: Path, step: int) -> None:
    """For each place where a file is synced: fork, extract, and die there (run by the next test).

    A file is synced before its renaming, and its folder after it, so that all states of the disk
    occur. Forks from a process of its own, because the test's may have threads.
    """
    for number in count(step=step):
        child = os.fork()
        if child == 0:
            die_at_sync(number)
            run(directory / str(number), "train", bad=("a",), same=COPIES)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            break


@pytest.mark.stops
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_sync_a_rerun_ends_in_the_same_bytes(step: int, tmp_path: Path) -> None:
    run(tmp_path / "undisturbed", "train", bad=("a",), same=COPIES)
    expected = files(tmp_path / "undisturbed")
    subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path\n"
            "from tests.system.test_extract_stops import kill_at_every_sync\n"
            "kill_at_every_sync(Path(sys.argv[1]), int(sys.argv[2]))",
            *(str(tmp_path / "killed"), str(step)),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    killed = sorted((tmp_path / "killed").iterdir(), key=lambda path: int(path.name))

    assert files(killed[-1]) == expected  # the one that no sync was left to kill
    unfinished = 0
    for cache in killed[:-1]:
        unfinished += files(cache) != expected
        for name in set(files(cache)) - set(expected):
            assert name.endswith((".partial", ".shard", ".json"))
        run(cache, "train", bad=("a",), same=COPIES)
        assert files(cache) == expected, f"killed at sync {cache.name}"
    assert len(killed) - 1 > 40 // step
    assert len(killed) - 1 - unfinished <= 1  # the kill after the last renaming


def free_bytes(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)


def test_a_disk_that_is_too_small_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = 8 * IMAGE_BYTES + len(prefixes_of(*(e.question for e in TRAIN + VAL))) * STATE_BYTES
    plan = plan_of(source_of())
    assert plan.feature_bytes(cache_spec(Images(), Text(), "float32")) == need
    images, text = Images(stop_at(0)), Text(stop_at(0))

    free_bytes(need - 1, monkeypatch)
    with pytest.raises(CacheError, match=r"need 2\.1 kB, but 2\.1 kB are free.*--limit"):
        run(tmp_path, images=images, text=text)
    assert set(files(tmp_path)) == {"cache.json", "cache.copy.json"}
    free_bytes(need, monkeypatch)
    run(tmp_path)
    free_bytes(0, monkeypatch)
    run(tmp_path)  # nothing is missing


def test_only_what_is_missing_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many stored rows of one split do not make room for those of another."""
    run(tmp_path, "train")
    need = 2 * IMAGE_BYTES + len("new") * STATE_BYTES

    free_bytes(need - 1, monkeypatch)
    with pytest.raises(CacheError, match=f"the missing features need {need} B"):
        run(tmp_path, "val", images=Images(stop_at(0)))
    free_bytes(need, monkeypatch)
    run(tmp_path, "val")
    check_cache(tmp_path)


@pytest.mark.parametrize("number", [0, 1, 5, 8, 13])
def test_a_disk_that_fills_up_ends_in_one_sentence_and_a_rerun_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "undisturbed")
    turns = count()
    real = os.fsync

    def fsync(handle: int) -> None:
        if next(turns) >= 2 * number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(CacheError, match=r"cannot be written .*No space left on device"):
            run(cache)
    run(cache)
    assert files(cache) == files(tmp_path / "undisturbed")


def threads() -> set[str]:
    return {thread.name.split("_")[0] for thread in threading.enumerate()}


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, Stopped])
def test_a_stop_loses_no_finished_shard_and_leaves_no_thread(
    end: type[BaseException], tmp_path: Path
) -> None:
    def before() -> None:
        if len(images.batches) == 2:
            raise end

    images = Images(before)
    with pytest.raises(end):
        run(tmp_path, images=images)

    assert not {"decode", "shards"} & threads()
    assert [record.rows for record in load_manifest(tmp_path).images] == [3]
    assert [line.pictures for line in read_throughputs(tmp_path, 9)] == [3]


def test_a_stop_does_not_hide_that_a_shard_could_not_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise CacheError("the disk is full")

    def before() -> None:
        if len(images.batches) == 2:
            raise KeyboardInterrupt

    images = Images(before)
    monkeypatch.setattr("frozen_vqa.pipeline.extract.shard_queue.stage_shard", full)
    with pytest.raises(CacheError, match="the disk is full"):
        run(tmp_path, images=images)
    assert not {"decode", "shards"} & threads()


def test_a_second_ctrl_c_does_not_give_the_lock_back_while_a_shard_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed, real = count(), ThreadPoolExecutor.shutdown

    def shutdown(self: ThreadPoolExecutor, wait: bool = True, **how: bool) -> None:
        if self._thread_name_prefix == "shards" and next(pressed) == 0:
            raise KeyboardInterrupt
        real(self, wait, **how)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert next(pressed) == 2
    assert not {"decode", "shards"} & threads()
    assert len(load_manifest(tmp_path).questions) > 1
