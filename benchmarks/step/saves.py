"""What a save costs a training that stands still for it, or does not.

    python -m benchmarks.step.saves [--rounds 3] [--bytes 1680000000] [--json] [--out FILE]

Saves a state of so many bytes, those of preset `large` by default: `behind` as `train-head` does
while steps go on, `in place`, and as it was `before`: in place, through the bytes that safetensors
makes. They take turns in one process. For each: the seconds in which the caller `stood`, until all
was `written`, and of the `processor`, and the most `memory` above that of the state. Prints medians
of the rounds after the first, in which `behind` also gets its memory.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from torch import Tensor

from benchmarks.harness import Json, finish, machine, median, peak_rss, show
from frozen_vqa.pipeline.runs import sealed, state
from frozen_vqa.pipeline.runs.state import (
    Counters,
    Progress,
    TrainingFingerprint,
    TrainState,
    save_state,
)
from frozen_vqa.pipeline.system.saver import Saver

VARIANTS = ("behind", "in place", "before")
LARGE = 1_680_000_000
TENSORS = 72
NOTHING_YET = Progress([], best_accuracy=-1.0, best_epoch=0, training_seconds=0, seconds=0)


def as_before(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> list[bytes]:
    """Return what `seal_parts` does, made by safetensors as one object."""
    told = {**record, "xxh3": sealed.tensors_digest(tensors, record)}
    return [safetensors.torch.save(dict(tensors), {"run": json.dumps(told, sort_keys=True)})]


def make_state(size: int) -> TrainState:
    """Return a state of about so many bytes."""
    each = size // (4 * TENSORS)
    tensors = {f"model.{i}": torch.rand(each) for i in range(TENSORS)}
    counters = Counters(epoch=0, batch=1, step=1, epoch_seconds=1.0, waited=0.0)
    return TrainState(tensors, counters, NOTHING_YET, TrainingFingerprint({}, {}, {}, {}))


def save(saver: Saver, run: Path, made: TrainState, variant: str) -> Json:
    """Save in one of the ways; return what it took."""
    Path("/proc/self/clear_refs").write_text("5")  # the most memory from now on
    before, clock, used = peak_rss(), time.perf_counter(), time.process_time()
    was = mock.patch.object(state, "seal_parts", as_before)

    def write(tensors: Mapping[str, Tensor]) -> None:
        save_state(run, replace(made, tensors=tensors))

    with was if variant == "before" else nullcontext():
        saver.save(made.tensors, write, behind=variant == "behind")
        stood = time.perf_counter() - clock
        saver.wait()
    return {
        "stood": stood,
        "written": time.perf_counter() - clock,
        "processor": time.process_time() - used,
        "memory": peak_rss() - before,
    }


def measure(rounds: int, size: int) -> Json:
    """Return medians over the rounds, of which one more comes first and is kept apart."""
    made, saver = make_state(size), Saver()
    found: dict[str, list[Json]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            for name in VARIANTS:
                found[name].append(save(saver, Path(folder), made, name))
    saver.close()

    def middle(results: Sequence[Json], what: str) -> float:
        return median([one[what] for one in results])

    saves = {
        name: {what: middle(all_[1:], what) for what in all_[0]} for name, all_ in found.items()
    }
    first = {name: all_[0] for name, all_ in found.items()}
    size = sum(tensor.nbytes for tensor in made.tensors.values())
    return {
        "machine": machine(),
        "bytes": size,
        "saves": saves,
        "first": first,
        "pause": saver.pause,
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=LARGE)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    result = measure(options.rounds, options.bytes)
    rows = [{"save": name, **one} for name, one in result["saves"].items()]
    show(f"a state of {result['bytes']:,} bytes; the next save after {result['pause']:.0f} s", rows)
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
