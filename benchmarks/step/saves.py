"""What a save costs a training: the same steps without one, beside one, and around one.

    python -m benchmarks.step.saves [--rounds 3] [--steps 20] [--width 1024] [--json] [--out FILE]

Trains the head of preset `large` on generated rows of 256 x 768 and 2048 numbers, in one process.
In turn, the same number of steps is made with `none`, with a save `behind` them as `train-head`
makes it, with one `in place`, and with one as it was `before`: in place, through the bytes that
safetensors makes. Each begins after its first step, and none ends before its save is on the disk.
Prints medians of the wall time and processor time that each has more than `none`, how long the
training thread stood still, and the most memory above that of `none`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from torch import Tensor

from benchmarks.harness import Json, finish, machine, median, peak_rss, show
from benchmarks.step.data import load_data, make_real_rows, new_trainer, real_rows_config
from frozen_vqa.pipeline.config import PRESETS
from frozen_vqa.pipeline.runs import sealed, state
from frozen_vqa.pipeline.runs.state import Progress, TrainingFingerprint, TrainState, save_state
from frozen_vqa.pipeline.system.saver import Saver
from frozen_vqa.pipeline.train.trainer import Trainer

VARIANTS = ("none", "behind", "in place", "before")
NOTHING_YET = Progress(metrics=[], best_accuracy=-1.0, best_epoch=0, training_seconds=0, seconds=0)


def as_before(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> list[bytes]:
    """Return what `seal_parts` does, made by safetensors as one object."""
    tensors = {name: tensor.detach() for name, tensor in tensors.items()}
    told = {**record, "xxh3": sealed.tensors_digest(tensors, record)}
    return [safetensors.torch.save(tensors, {"run": json.dumps(told, sort_keys=True)})]


class Turns:
    """A training that makes some steps in each of the ways."""

    def __init__(self, trainer: Trainer, run: Path) -> None:
        self.trainer, self.run, self.saver = trainer, run, Saver()
        self.batches = self._endless()

    def _endless(self) -> Any:
        number = 0
        while True:
            yield from self.trainer.train_reader.batches(self.trainer.begin(number))
            number += 1

    def save(self, variant: str) -> None:
        """Save a state in one of the ways."""
        trainer = self.trainer
        began = TrainingFingerprint({"keep": "best"}, {}, {}, {})
        now = TrainState(trainer.tensors(), replace(trainer.counters), NOTHING_YET, began)

        def write(tensors: Mapping[str, Tensor]) -> None:
            save_state(self.run, replace(now, tensors=tensors))

        was = mock.patch.object(state, "seal_parts", as_before)
        with was if variant == "before" else nullcontext():
            self.saver.save(now.tensors, write, behind=variant == "behind")

    def take(self, variant: str, steps: int) -> Json:
        """Make some steps and return what they took."""
        Path("/proc/self/clear_refs").write_text("5")  # the most memory from now on
        wall, processor, stood = time.perf_counter(), time.process_time(), 0.0
        for number in range(steps):
            self.trainer.learn(next(self.batches))
            if number == 0 and variant != "none":
                before = time.perf_counter()
                self.save(variant)
                stood = time.perf_counter() - before
        self.saver.wait()
        return {
            "wall": time.perf_counter() - wall,
            "processor": time.process_time() - processor,
            "stood": stood,
            "memory": peak_rss(),
        }


def measure(rounds: int, steps: int, width: int) -> Json:
    """Return medians over the rounds, of which one more comes first and does not count."""
    with tempfile.TemporaryDirectory() as folder:  # TMPDIR may name another disk
        make_real_rows(Path(folder) / "cache", 64)
        large = {**PRESETS["large"], "width": width}
        config = replace(real_rows_config(), **large, batch_size=4, ema=0.0)
        data = load_data(Path(folder) / "cache", config)
        turns = Turns(new_trainer(data, config, torch.device("cpu")), Path(folder) / "run")
        turns.take("none", 2)
        found: dict[str, list[Json]] = {name: [] for name in VARIANTS}
        for number in range(rounds + 1):
            for variant in VARIANTS:
                one = turns.take(variant, steps)
                if number:
                    found[variant].append(one)
        turns.saver.close()
        nbytes = sum(tensor.nbytes for tensor in turns.trainer.tensors().values())
    pick: Callable[[str, str], list[float]] = lambda name, what: [r[what] for r in found[name]]  # noqa: E731
    more = {
        name: {
            f"{what} more": median(
                [a - b for a, b in zip(pick(name, what), pick("none", what), strict=True)]
            )
            for what in ("wall", "processor", "memory")
        }
        | {"stood": median(pick(name, "stood"))}
        for name in VARIANTS[1:]
    }
    steps_alone = median(pick("none", "wall")) / steps
    return {
        "machine": machine(),
        "bytes": nbytes,
        "step": steps_alone,
        "saves": more,
        "cost": turns.saver.cost,
        "pause": turns.saver.pause,
        "rounds": found,
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=PRESETS["large"]["width"])
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    result = measure(options.rounds, options.steps, options.width)
    rows = [{"save": name, **one} for name, one in result["saves"].items()]
    title = f"a state of {result['bytes']:,} bytes; a step takes {result['step']:.2f} s"
    show(f"{title}; the next save after {result['pause']:.0f} s", rows)
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
