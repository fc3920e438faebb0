"""How the time of an epoch grows with the pictures, in one process.

    python -m benchmarks.end_to_end.growth_turns EPOCHS CACHE...

CACHE... are caches of `growth.py`, the largest last. Each has a training of its own. The trainings
take turns of a second until the largest has trained EPOCHS epochs and each other one as many
questions, so that a slow minute of the machine affects all of them alike. An epoch counts as a
whole: its plan, its reader and its steps. The first epoch of each, in which every row is checked,
is measured apart. Prints one JSON object with seconds per thousand pictures.
`python -m benchmarks.end_to_end` starts this.
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.end_to_end.growth import DIM
from benchmarks.harness import Json
from benchmarks.step.data import load_data, new_trainer
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.train.trainer import Trainer

TURN = 1.0
"""Seconds."""


@dataclass
class Turns:
    """A training that takes turns with others.

    Attributes:
        pictures: That its questions are about.
        steps: That are still to be taken,
        epochs: and how many epochs they are.
        first: Seconds of the epoch before those.
        seconds: That steps have taken so far.
        left: Whether there are more of them.
    """

    pictures: int
    steps: Iterator[None]
    epochs: int = 1
    first: float = 0.0
    seconds: float = 0.0
    left: bool = True

    def take(self, seconds: float) -> None:
        """Train for so long, or to the end."""
        began = time.perf_counter()
        for _ in self.steps:
            if time.perf_counter() - began >= seconds:
                break
        else:
            self.left = False
        self.seconds += time.perf_counter() - began


def steps(trainer: Trainer, first: int, end: int) -> Iterator[None]:
    """Train these epochs; yield after each step."""
    for number in range(first, end):
        for batch in trainer.train_reader.batches(trainer.begin(number)):
            trainer.learn(batch)
            yield
        trainer.mean_loss()


def measure(caches: Sequence[Path], epochs: int) -> list[Json]:
    """Train over all caches in turn."""
    shape = replace(TrainConfig(), width=DIM, min_answer_count=1)
    data = [load_data(cache, shape) for cache in caches]
    pictures = [len(np.unique(one.splits[shape.train_split].image_rows)) for one in data]
    turns = []
    for one, count in zip(data, pictures, strict=True):
        counted = epochs * pictures[-1] // count
        config = replace(shape, epochs=1 + counted)
        trainer = new_trainer(one, config, torch.device("cpu"))
        before = Turns(count, steps(trainer, 0, 1))
        before.take(math.inf)
        turns.append(Turns(count, steps(trainer, 1, config.epochs), counted, before.seconds))
    while left := [training for training in turns if training.left]:
        for training in left:
            training.take(TURN)
    return [
        {
            "pictures": one.pictures,
            "first_epoch_per_1k": 1000 * one.first / one.pictures,
            "epoch_per_1k": 1000 * one.seconds / one.epochs / one.pictures,
        }
        for one in turns
    ]


def main() -> None:
    """Measure, and print."""
    epochs, *caches = sys.argv[1:]
    console.quiet = True
    print(json.dumps({"trained": measure([Path(cache) for cache in caches], int(epochs))}))


if __name__ == "__main__":
    main()
