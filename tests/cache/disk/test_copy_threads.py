"""Work that is split among threads is done once each, and its errors come out."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import frozen_vqa.cache.disk.copy_threads
from frozen_vqa.cache import CacheDamagedError, FeatureCache
from frozen_vqa.cache.disk.copy_threads import CopyThreads
from frozen_vqa.cache.memory import ResidentImages
from tests.support.caches import (
    PATCHES,
    VISION_DIM,
    Row,
    extent_of,
    make_cache,
)


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine, and for the smallest work."""
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(frozen_vqa.cache.disk.copy_threads, "BYTES_PER_THREAD", 1)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_each_piece_is_done_once(count: int) -> None:
    done: list[int] = []
    CopyThreads().each(done.extend, range(count), nbytes=1 << 30)
    assert sorted(done) == list(range(count))


def test_threads_work_side_by_side() -> None:
    together = threading.Barrier(3, timeout=10)
    CopyThreads().each(lambda _: together.wait(), [0, 1, 2], nbytes=1 << 30)


def test_little_work_stays_with_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_vqa.cache.disk.copy_threads, "BYTES_PER_THREAD", 100)
    by: list[threading.Thread] = []
    CopyThreads().each(lambda _: by.append(threading.current_thread()), range(9), nbytes=199)
    assert by == [threading.current_thread()]


@pytest.mark.parametrize("failing", [0, 4, 8])
def test_an_error_comes_out_once_all_have_ended(failing: int) -> None:
    ended: list[int] = []

    def do(work: Sequence[int]) -> None:
        for one in work:
            if one == failing:
                raise ValueError(f"no {one}")
            ended.append(one)

    threads = CopyThreads()
    with pytest.raises(ValueError, match=f"no {failing}"):
        threads.each(do, range(9), nbytes=1 << 30)
    whole = [one for one in range(9) if one // 3 != failing // 3]
    assert sorted(ended) == sorted([*whole, *range(failing // 3 * 3, failing)])


@pytest.mark.parametrize("resident", [False, True], ids=["mapped", "resident"])
def test_rows_that_threads_copy_are_those_of_the_cache(resident: bool, tmp_path: Path) -> None:
    made = make_cache(tmp_path, {"train": [Row(image, 0) for image in range(9)]})
    features = FeatureCache(made.directory)
    images = ResidentImages(features) if resident else features
    rows = np.array([8, 0, 3, 3, 5, 1, 7])
    for _ in range(2):  # the first touch, and the next one
        out = np.empty((7, PATCHES, VISION_DIM), np.float16)
        images.read_images(rows, out)
        assert np.array_equal(out, made.patch_embeddings[rows])


@pytest.mark.parametrize("image", [0, 4, 8])
def test_damage_that_any_thread_finds_is_reported(image: int, tmp_path: Path) -> None:
    made = make_cache(tmp_path, {"train": [Row(image, 0) for image in range(9)]})
    path = made.directory / f"images/0000{image // 5}.h5"
    data = bytearray(path.read_bytes())
    offset, _ = extent_of(path, "patch_embeddings")
    data[offset + image % 5 * PATCHES * VISION_DIM * 2] ^= 1
    path.write_bytes(data)
    out = np.empty((9, PATCHES, VISION_DIM), np.float16)
    with pytest.raises(CacheDamagedError, match=f"row {image % 5} differs from its digest"):
        FeatureCache(made.directory).read_images(np.arange(9), out)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_works_too() -> None:
    """As a DataLoader's workers do: its threads are not there any more."""
    threads, together = CopyThreads(), threading.Barrier(3, timeout=10)
    threads.each(lambda _: together.wait(), [0, 1, 2], nbytes=1 << 30)  # so that there are both
    threading.Event().wait(0.1)  # until they have nothing to do
    child = os.fork()
    if not child:
        try:
            done: list[int] = []
            threads.each(done.extend, range(9), nbytes=1 << 30)
            os._exit(0 if sorted(done) == list(range(9)) else 3)
        finally:
            os._exit(4)
    for _ in range(500):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        threading.Event().wait(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the forked process hangs")
