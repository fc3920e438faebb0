"""One trainer on one cache, in a process of its own. `python -m benchmarks.step` starts this.

    python -m benchmarks.step.variant VARIANT CACHE --config JSON --scratch DIR [--kept SHARE]
        (--seconds S --warmup STEPS --steps N | --to-the-end)

    grouped         ours
    plain           ours in plain order
    ...-float32     either, where bfloat16 would be taken
    usual-2         h5py with one-row chunks, DataLoader with 2 workers
    usual-best-0    h5py with contiguous datasets, no workers; freed memory is kept, as ours does
                    and as PyTorch's tuning guide advises (by another allocator)
    usual-best-2    the same with 2 workers

With --seconds it trains until so many seconds and steps after the warm-up have passed and prints
questions per second, and for ours the share of the device's peak (`benchmarks/peak.py`); with
--to-the-end it trains all epochs and prints each epoch's loss and the accuracy of the last weights.
One JSON object, on stdout.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.peak import operations_of, peak_of_products
from benchmarks.step.data import first_head, load_data, new_trainer
from benchmarks.step.usual_trainer import UsualDataset, UsualTrainer, usual_loader, write_usual_file
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device, keep_freed_memory, training_dtype
from frozen_vqa.pipeline.train.data import TrainData

USUAL = {"usual-2": (True, 2), "usual-best-0": (False, 0), "usual-best-2": (False, 2)}
"""Whether rows are in chunks of their own, and the workers, of each usual trainer."""

VARIANTS = ("grouped", "plain", *USUAL)
IN_FLOAT32 = ("grouped-float32", "plain-float32")

AfterStep = Callable[[int], None]
"""Called after each step with the number of its questions."""


class Runner(Protocol):
    """A training that can be measured."""

    def epoch(self, number: int, after_step: AfterStep) -> float:
        """Train for one epoch and return its mean loss."""

    def accuracy(self) -> float:
        """Return the accuracy on the validation split, in percent."""


class Ours:
    """Our trainer, grouped or in plain order."""

    def __init__(self, data: TrainData, config: TrainConfig, device: torch.device) -> None:
        self._trainer = new_trainer(data, config, device)

    def epoch(self, number: int, after_step: AfterStep) -> float:
        """See `Runner`."""
        trainer = self._trainer
        sizes = [sum(map(len, grid)) for grid in trainer.plan(number)]
        return trainer.epoch(number, lambda: after_step(sizes[trainer.counters.batch - 1]))

    def accuracy(self) -> float:
        """See `Runner`."""
        return self._trainer.accuracy()

    def waited(self) -> float:
        """Return the seconds for which steps have waited for data so far."""
        return self._trainer.train_reader.waited

    def share_of_peak(self, questions_per_second: float, batches: int = 5) -> float:
        """Return the share of the device's peak that steps at this speed reach in products."""
        trainer = self._trainer
        plan = trainer.begin(0)[:batches]

        def train() -> None:
            for batch in trainer.train_reader.batches(plan):
                trainer.learn(batch)

        each = operations_of(train) / plan.questions
        dtype = training_dtype(trainer.config.precision, trainer.device)
        return each * questions_per_second / peak_of_products(trainer.device, dtype)


class Usual:
    """The usual trainer, which begins with the same weights as ours."""

    def __init__(
        self,
        data: TrainData,
        config: TrainConfig,
        device: torch.device,
        scratch: Path,
        variant: str,
    ) -> None:
        one_row_chunks, self._workers = USUAL[variant]
        if not one_row_chunks:
            keep_freed_memory()
        self._config, self._data = config, data
        self._dataset = functools.partial(self._open, scratch, one_row_chunks)
        first = first_head(data, config)
        loader = usual_loader(self._dataset("train"), config, workers=self._workers)
        self._trainer = UsualTrainer(config, device, first, loader)

    def _open(self, scratch: Path, one_row_chunks: bool, name: str) -> UsualDataset:
        data, config = self._data, self._config
        split = config.train_split if name == "train" else config.val_split
        path = scratch / f"{name}-{'chunks' if one_row_chunks else 'contiguous'}.h5"
        if not path.exists():
            write_usual_file(path, data.cache, data.splits[split], one_row_chunks=one_row_chunks)
        return UsualDataset(path, data.scores[split], len(data.vocabulary))

    def epoch(self, number: int, after_step: AfterStep) -> float:
        """See `Runner`."""
        return self._trainer.epoch(after_step)

    def accuracy(self) -> float:
        """See `Runner`."""
        dataset = self._dataset("val")
        config = replace(self._config, batch_size=2 * self._config.batch_size)
        loader = usual_loader(dataset, config, workers=self._workers, shuffle=False)
        return 100 * float(dataset.scores.score(self._trainer.predict(loader)).mean())


def make_runner(
    variant: str, data: TrainData, config: TrainConfig, device: torch.device, scratch: Path
) -> Runner:
    """Return one of `VARIANTS` or `IN_FLOAT32`."""
    if variant in USUAL:
        return Usual(data, config, device, scratch, variant)
    order, _, precision = variant.partition("-")
    changes: dict[str, Any] = {"precision": precision} if precision else {}
    return Ours(data, replace(config, group_by_image=order == "grouped", **changes), device)


class Enough(Exception):
    """Enough has been measured."""


@dataclass
class Clock:
    """Counts questions from the end of the warm-up on.

    Attributes:
        warmup: Steps that do not count, at least 1.
        seconds: When both these seconds
        steps: and these steps have passed, `step` raises `Enough`.
        waited: Returns the seconds for which steps have waited so far, where that is known.
    """

    warmup: int
    seconds: float
    steps: int
    waited: Callable[[], float] | None = None
    done: int = -1
    questions: int = 0
    result: dict[str, float] = field(default_factory=dict)

    def step(self, questions: int) -> None:
        """Count one step."""
        self.warmup -= 1
        if self.warmup > 0:
            return
        self.done += 1
        if not self.done:
            synchronize()
            self._waited = self.waited() if self.waited else 0.0
            self._began = time.perf_counter()
            return
        self.questions += questions
        if self.done < self.steps or time.perf_counter() - self._began < self.seconds:
            return
        synchronize()
        seconds = time.perf_counter() - self._began
        self.result = {
            "questions_per_second": self.questions / seconds,
            "steps": self.done,
            "seconds": seconds,
        }
        if self.waited:
            self.result["data_wait_fraction"] = (self.waited() - self._waited) / seconds
        raise Enough


def synchronize() -> None:
    """Wait until the GPU, if there is one, has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def speed(epoch: Callable[[int, AfterStep], float], clock: Clock, epochs: int) -> dict[str, Any]:
    """Train until the clock has had enough."""
    try:
        for number in range(epochs):
            epoch(number, clock.step)
    except Enough:
        return clock.result
    raise RuntimeError(f"{epochs} epochs were over before the measurement; make the cache larger")


def to_the_end(runner: Runner, epochs: int) -> dict[str, Any]:
    """Train all epochs; return losses, the last accuracy and the seconds of the training alone."""
    started = time.perf_counter()
    losses = [runner.epoch(number, lambda _: None) for number in range(epochs)]
    seconds = time.perf_counter() - started
    return {"accuracy": runner.accuracy(), "losses": losses, "seconds": round(seconds, 1)}


def main() -> None:
    """Measure one variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=(*VARIANTS, *IN_FLOAT32))
    parser.add_argument("cache", type=Path)
    parser.add_argument("--config", type=json.loads, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--kept", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--to-the-end", action="store_true")
    args = parser.parse_args()
    console.quiet = True
    config = TrainConfig(**args.config)
    data = load_data(args.cache, config, kept=args.kept)
    runner = make_runner(args.variant, data, config, choose_device("auto"), args.scratch)
    if args.to_the_end:
        result = to_the_end(runner, config.epochs)
    else:
        waited = runner.waited if isinstance(runner, Ours) else None
        clock = Clock(args.warmup, args.seconds, args.steps, waited)
        result = speed(runner.epoch, clock, config.epochs)
        if isinstance(runner, Ours):
            result["share_of_peak"] = runner.share_of_peak(result["questions_per_second"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
