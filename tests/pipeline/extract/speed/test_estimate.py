"""A dry run's estimate counts all that an extraction does to a picture, on a clock of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from frozen_vqa.pipeline.extract.extract import SHARD_BYTES
from frozen_vqa.pipeline.extract.speed import estimate
from frozen_vqa.pipeline.extract.speed.batch_size import BatchSize
from frozen_vqa.pipeline.extract.speed.throughput import PhaseTimer


@dataclass
class Encoder:
    """Takes 5 s for the first batch, then 2 s, of which it waits a part for the decoding."""

    pictures: int
    waits: float
    clock: float = 0.0
    built: int = 0
    spec = SimpleNamespace(image_row_bytes=SHARD_BYTES // 10)

    @property
    def plan(self) -> Any:
        return SimpleNamespace(images=list(range(self.pictures)))

    def encode_images(
        self, chunks: Sequence[Sequence[int]], batch_size: BatchSize, timer: PhaseTimer
    ) -> Iterator[Any]:
        for i, chunk in enumerate(chunks):
            assert len(chunk) <= batch_size.now
            self.clock += 2 if i else 5
            timer.seconds["waiting"] += 2 * self.waits
            yield SimpleNamespace(to_shard=self._build)

    def _build(self, *_: object) -> None:
        self.built += 1


@pytest.mark.parametrize(
    ("pictures", "expected"), [(100, 5 + 9 * 2), (5, 5), (10, 5), (25, 5 + 1.5 * 2), (9999, 2002.8)]
)
@pytest.mark.parametrize("waits", [0.1, 0.9])
def test_a_sample_stands_for_all_pictures(
    pictures: int, expected: float, waits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(pictures, waits)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: encoder.clock)
    seconds, waiting = estimate.time_pictures(cast(Any, encoder), 10)
    assert seconds == pytest.approx(expected, rel=0.15 if pictures == 25 else 1e-3)
    assert waiting == pytest.approx(waits)
    assert 1 <= encoder.built <= 3  # it stops after a few seconds


def test_a_shard_is_built_as_often_as_one_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(9999, 0.1)
    encoder.spec = SimpleNamespace(image_row_bytes=SHARD_BYTES // 30)  # three batches
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: encoder.clock)
    monkeypatch.setattr(estimate, "MEASURED", 2 * 9)
    estimate.time_pictures(cast(Any, encoder), 10)
    assert encoder.built == 4  # of ten batches
