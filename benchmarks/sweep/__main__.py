"""Eight heads in one pass beside eight single trainings, on rows of real size.

    python -m benchmarks.sweep [--cache DIR] [--pictures 5000] [--epochs 2] [--set NAME ...]
                               [--quick] [--json] [--out FILE]

The questions are those of --cache, made from easy-VQA as the README says, or generated; each
picture has 256 x 768 generated numbers. For each set of eight heads, the sweep and each single
training run in fresh processes, in random order. Each process reports its seconds with imports, its
processor seconds, which other work on the machine affects less, and its peak memory. A ratio of
times is the sweep over the sum of the eight; a ratio of memory is the sweep over the largest of the
eight. `same_weights` must be true: the weights of both ways are compared.

    rates    co-attention of width 128: four learning rates, two seeds
    kinds    all fusion kinds, several widths
    pooled   kinds without attention: concat, image-only, question-only
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Json, finish, fresh, machine, rounds, show
from benchmarks.step.data import easy_vqa_config
from benchmarks.sweep.data import write_real_rows
from frozen_vqa.pipeline.config import TrainConfig

VARIANT = "benchmarks.sweep.variant"
TIMEOUT = 4 * 3600.0

Heads = Mapping[str, Mapping[str, Any]]
SETS: dict[str, Heads] = {
    "rates": {
        f"{lr:g}-{seed}": {"lr": lr, "seed": seed}
        for lr in (5e-4, 1e-3, 2e-3, 4e-3)
        for seed in (0, 1)
    },
    "kinds": {
        **{f"co-attention-{width}": {"width": width} for width in (64, 128)},
        **{
            f"text-to-image-{width}": {"fusion": "text-to-image", "width": width}
            for width in (64, 128)
        },
        **{f"concat-{width}": {"fusion": "concat", "width": width} for width in (128, 256)},
        "question-only": {"fusion": "question-only"},
        "image-only": {"fusion": "image-only"},
    },
    "pooled": {
        f"{fusion}-{width}": {"fusion": fusion, "width": width}
        for fusion, widths in {
            "concat": (64, 128, 256, 512),
            "image-only": (128, 256),
            "question-only": (128, 256),
        }.items()
        for width in widths
    },
}


def measure(cache: Path, folder: Path, heads: Heads, base: TrainConfig) -> Json:
    """Run one sweep of the heads, and each alone; compare."""
    configs = {name: asdict(replace(base, **settings)) for name, settings in heads.items()}
    tasks: dict[str, Callable[[int], Json]] = {
        name: partial(_run, cache, folder / "alone" / name, {name: config})
        for name, config in configs.items()
    }
    tasks["the sweep"] = partial(_run, cache, folder / "sweep", configs)
    found = {name: one for name, (one,) in rounds(tasks, 1).items()}
    together = found.pop("the sweep")
    alone = {
        "seconds": sum(one["seconds"] for one in found.values()),
        "cpu_seconds": sum(one["cpu_seconds"] for one in found.values()),
        "peak_bytes": max(one["peak_bytes"] for one in found.values()),
    }
    same = all(
        _weights(folder / "alone" / name) == _weights(folder / "sweep" / name) for name in heads
    )
    ratios = {name: together[name] / alone[name] for name in alone}
    return {"sweep": together, "alone": alone, "ratios": ratios, "same_weights": same}


def _run(cache: Path, run: Path, configs: Mapping[str, Any], number: int) -> Json:
    return fresh(VARIANT, [cache, run, "--heads", json.dumps(configs)], timeout=TIMEOUT)


def _weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def run_all(options: argparse.Namespace) -> Json:
    """Make the cache and measure every set."""
    base = replace(easy_vqa_config(), width=128, val_split="val", epochs=options.epochs)
    pictures = options.pictures
    if options.quick:
        base, pictures = replace(base, epochs=1), 40
    result: Json = {
        "machine": machine(),
        "pictures": pictures,
        "epochs": base.epochs,
        "sets": {},
    }
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        cache = Path(scratch) / "cache"
        write_real_rows(cache, options.cache, pictures=pictures)
        os.sync()  # or it would be written during the measurements
        for name in options.set or list(SETS):
            folder = Path(scratch) / name
            result["sets"][name] = measure(cache, folder, SETS[name], base)
    result["ratios"] = {name: one["ratios"]["seconds"] for name, one in result["sets"].items()}
    return result


def show_all(result: Json) -> None:
    """Print a line a set."""
    rows = [
        {
            "heads": name,
            "sweep s": one["sweep"]["seconds"],
            "alone s": one["alone"]["seconds"],
            "ratio": one["ratios"]["seconds"],
            "of processor time": one["ratios"]["cpu_seconds"],
            "sweep GB": one["sweep"]["peak_bytes"] / 1e9,
            "alone GB": one["alone"]["peak_bytes"] / 1e9,
            "same weights": str(one["same_weights"]),
        }
        for name, one in result["sets"].items()
    ]
    show(f"8 heads, {result['pictures']:,} pictures, {result['epochs']} epochs", rows)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, help="cache of easy-VQA, made as the README says")
    parser.add_argument("--pictures", type=int, default=5000, help="a fifth of them to validate")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--set", action="append", choices=list(SETS), help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    result = run_all(options)
    show_all(result)
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
