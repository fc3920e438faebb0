"""What a save takes from the training steps that go on beside it.

    python -m benchmarks.step.beside_saves [--rounds 6] [--seconds 12] [--batch-size 32]
                                           [--quick] [--json] [--out FILE]

Trains a head of preset `large` on generated rows of 256 x 768. Each round measures the same number
of steps twice, in an order that changes: with a save behind them, as `train-head` makes it, and
without. Both end when nothing is written any more. Prints the seconds that a save took from the
training (the median of the differences), `train-head`'s pause between two saves, and their ratio.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from benchmarks.harness import Json, finish, machine, median, rounds, show
from benchmarks.step.data import load_data, make_real_rows, new_trainer
from benchmarks.step.saves import NOTHING_YET
from benchmarks.step.variant import Enough, synchronize
from frozen_vqa.pipeline.config import TrainConfig, make_config
from frozen_vqa.pipeline.runs.state import TrainingFingerprint, TrainState, save_state
from frozen_vqa.pipeline.system.device import choose_device
from frozen_vqa.pipeline.system.saver import Saver
from frozen_vqa.pipeline.train.trainer import Trainer

PICTURES = 1000
ENDLESS = 1_000_000


def make_saver(trainer: Trainer, run: Path, saver: Saver) -> Callable[[], None]:
    """Return what begins to save all that a training needs to go on."""

    def write(tensors: Mapping[str, Tensor]) -> None:
        fingerprint = TrainingFingerprint({}, {}, {}, {})
        save_state(run, TrainState(tensors, trainer.counters, NOTHING_YET, fingerprint))

    return lambda: saver.save(trainer.tensors(), write, behind=True)


def take_steps(trainer: Trainer, epoch: int, wanted: Callable[[int, float], bool]) -> Json:
    """Train until `wanted`, given steps and seconds so far, is false."""
    began, steps = time.perf_counter(), 0

    def after_step() -> None:
        nonlocal steps
        steps += 1
        if not wanted(steps, time.perf_counter() - began):
            raise Enough

    with suppress(Enough):
        trainer.epoch(epoch, after_step)
    synchronize()
    return {"steps": steps, "seconds": time.perf_counter() - began}


def measure(config: TrainConfig, number: int, seconds: float, folder: Path) -> Json:
    """Return the seconds of the same steps with a save and without, and what a save takes."""
    make_real_rows(folder / "cache", PICTURES)
    trainer = new_trainer(load_data(folder / "cache", config), config, choose_device("auto"))
    saver = Saver()
    save = make_saver(trainer, folder, saver)
    take_steps(trainer, 0, lambda steps, _: steps < 3)
    save()  # the first save also gets memory
    saver.wait()
    steps = int(take_steps(trainer, 0, lambda _, passed: passed < seconds)["steps"])

    def window(saving: bool) -> Callable[[int], Json]:
        def run(seed: int) -> Json:
            began = time.perf_counter()
            if saving:
                save()
            take_steps(trainer, seed, lambda done, _: done < steps)
            saver.wait()
            return {"seconds": time.perf_counter() - began}

        return run

    found = rounds({"with a save": window(True), "without": window(False)}, number)
    saver.close()
    times = {name: [float(one["seconds"]) for one in some] for name, some in found.items()}
    lost = [one - other for one, other in zip(*times.values(), strict=True)]
    return {
        "machine": machine(),
        "bytes": sum(tensor.nbytes for tensor in trainer.tensors().values()),
        "batch_size": config.batch_size,
        "steps": steps,
        "seconds": {name: median(some) for name, some in times.items()},
        "all": times,
        "lost": median(lost),
        "pause": saver.pause,
        "share": median(lost) / saver.pause,
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=12.0, help="of steps in one measurement")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="a small head, to see that it works")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    preset = "small" if options.quick else "large"
    config = make_config({"preset": preset, "min_answer_count": 1, "top_answers": 3129})
    config = replace(config, batch_size=options.batch_size, epochs=ENDLESS)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(config, options.rounds, options.seconds, Path(folder))
    rows = [{"steps": name, "seconds": took} for name, took in result["seconds"].items()]
    show(f"{result['steps']} steps of a head whose state has {result['bytes']:,} bytes", rows)
    show(
        "a save",
        [
            {
                "took (s)": result["lost"],
                "comes every (s)": result["pause"],
                "share": result["share"],
            }
        ],
    )
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
