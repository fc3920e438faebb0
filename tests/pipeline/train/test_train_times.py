"""Each time and each rate that a training reports is that of what it names, to the millisecond."""

from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.batches import reader as reading
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.train import loop, sweep, train, trainer
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made
from tests.support.clocks import Clock
from tests.support.trainings import CPU, metrics, run_training, small

BATCHES, VAL_BATCHES, QUESTIONS = 6, 2, 128  # of an epoch of `scenes`
WAIT, STEP = 3.0, 2.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Each batch is waited for three seconds, and each step takes two."""
    clock = Clock(monkeypatch, reading, loop, sweep, train, trainer)

    class Slow:
        def __init__(self, batch: Any) -> None:
            self.batch = batch

        def result(self) -> Any:
            clock.now += WAIT
            return self.batch.result()

    wait, learn = BatchReader._wait, Trainer.learn

    def slow_learn(self: Trainer, *args: Any) -> bool:
        clock.now += STEP
        return learn(self, *args)

    monkeypatch.setattr(BatchReader, "_wait", lambda self, b, buffer: wait(self, Slow(b), buffer))
    monkeypatch.setattr(Trainer, "learn", slow_learn)
    return clock


@pytest.mark.parametrize("accumulate", [1, 2])
def test_times_of_one_head(scenes: Made, clock: Clock, tmp_path: Path, accumulate: int) -> None:
    result = run_training(scenes, tmp_path / "run", epochs=2, accumulate=accumulate)

    seconds = BATCHES * (WAIT + STEP)
    for line in metrics(tmp_path / "run"):
        assert (line["seconds"], line["waited"]) == (seconds, BATCHES * WAIT)
        assert line["questions_per_second"] == round(QUESTIONS / seconds, 1)
    assert result.questions_per_second == round(QUESTIONS / seconds, 1)
    assert result.data_wait_fraction == WAIT / (WAIT + STEP)
    assert result.seconds == 2 * (seconds + VAL_BATCHES * WAIT) == clock.now - 1000


def test_times_of_heads_that_wait_together(scenes: Made, clock: Clock, tmp_path: Path) -> None:
    """Each head has waited for every batch, and steps of another head are not its own."""
    heads = {name: small(epochs=2, fusion=name) for name in ("concat", "text-to-image")}
    result = sweep.sweep(scenes.directory, tmp_path, heads=heads, device=CPU)

    for name in heads:
        for line in metrics(tmp_path / name):
            assert (line["seconds"], line["waited"]) == (BATCHES * (WAIT + STEP), BATCHES * WAIT)
        assert result.heads[name].data_wait_fraction == WAIT / (WAIT + STEP)
    assert result.seconds == 2 * (BATCHES * (WAIT + 2 * STEP) + VAL_BATCHES * WAIT)
