"""How many pictures the encoder gets at once is chosen once, and then kept."""

from typing import Any

import numpy as np
import pytest
import torch

from frozen_vqa.cache import Manifest
from frozen_vqa.cache.format.records.files import ShardRecord
from frozen_vqa.pipeline.extract.speed import batch_size
from frozen_vqa.pipeline.extract.speed.batch_size import CPU_BATCH, GPU_BATCH, choose_batch_size
from tests.support.caches import make_spec
from tests.support.frozen import Images

PICTURE = np.zeros((2, 3, 3), np.uint8)


class OnGpu(Images):
    device = "cuda"


def choose(encoder: Any, *recorded: object) -> int:
    """What is chosen for a cache whose shards record these sizes."""
    about = {
        "rows": 1,
        "bytes": 1,
        "xxh3": "",
        "datasets": {},
        "structure": "",
        "names": "",
        "prefixes": 0,
    }
    shards = tuple(
        ShardRecord(file="", largest=1.0, origin={"batch_size": size}, **about)  # type: ignore
        for size in recorded
    )
    return choose_batch_size(encoder, Manifest(make_spec(), shards), lambda: PICTURE)


@pytest.mark.parametrize(
    ("memory", "milliseconds", "best"),
    [
        (1000, {16: 16, 32: 24, 64: 40, 128: 79, 256: 157}, 64),  # of nearly equal ones the least
        (1000, {16: 16, 32: 32, 64: 64, 128: 90, 256: 150}, 256),  # not stopped by a plateau
        (100, {16: 16, 32: 24, 64: 40}, 64),  # no more fit
        (8, {}, 16),  # to be halved when it is used
    ],
)
def test_the_fastest_that_fits_is_chosen_on_a_gpu(
    memory: int, milliseconds: dict[int, int], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    class Timed(OnGpu):
        def encode(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal now
            found = super().encode(pixels)
            now += milliseconds[len(pixels)] / 1000
            return found

    monkeypatch.setattr(batch_size.time, "perf_counter", lambda: now)
    assert choose(Timed(memory=memory)) == best


def test_what_was_chosen_for_a_cache_is_kept() -> None:
    for encoder in (Images(), OnGpu()):
        assert choose(encoder, 256, 48) == 48
        assert encoder.batches == []
    for odd in (None, 0, 10**9):
        assert choose(OnGpu(), odd) == GPU_BATCH
        assert choose(Images(), odd) == CPU_BATCH
    assert choose(Images()) == CPU_BATCH
