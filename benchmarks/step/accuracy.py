"""Accuracy and loss after full trainings, for `python -m benchmarks.step --accuracy`."""

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.harness import Json, fresh, machine, show
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.system.console import console

VARIANTS = ("grouped", "plain", "usual-2")
TIMEOUT = 12 * 3600.0


def accuracies(cache: Path, config: TrainConfig, *, seeds: int, path: Path) -> Json:
    """Train every variant once a seed; return accuracies on the validation split in percent.

    Args:
        cache: Holds both splits.
        config: Every setting but the seed.
        seeds: 0 to this, exclusive.
        path: Where what was found is written after each training. Trainings of the same settings
            that are there already are not repeated.
    """
    settings = asdict(replace(config, seed=0)) | {"cache": cache.name}
    result: Json = {"machine": machine(), "settings": settings, "trainings": []}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.get("settings") == settings:
            result["trainings"] = before["trainings"]
    done = {(one["variant"], one["seed"]) for one in result["trainings"]}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            for variant in VARIANTS:
                if (variant, seed) in done:
                    continue
                seeded = replace(config, seed=seed, order_seed=seed)
                found = _train(variant, cache, seeded, Path(scratch))
                result["trainings"].append({"variant": variant, "seed": seed, **found})
                path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
                console.print(
                    f"{variant}, seed {seed}: {found['accuracy']:.2f} % in {found['seconds']:,} s"
                )
    kept = [one for one in result["trainings"] if one["seed"] < seeds]
    result["accuracy"] = {
        variant: _summary([one for one in kept if one["variant"] == variant])
        for variant in VARIANTS
    }
    _print(result["accuracy"])
    return result


def _train(variant: str, cache: Path, config: TrainConfig, scratch: Path) -> Json:
    settings = ["--config", json.dumps(asdict(config)), "--scratch", scratch, "--to-the-end"]
    return fresh("benchmarks.step.variant", [variant, cache, *settings], timeout=TIMEOUT)


def _summary(trainings: Sequence[Mapping]) -> Json:
    values = [one["accuracy"] for one in trainings]
    losses = zip(*(one["losses"] for one in trainings), strict=True)
    return {
        "seeds": {str(one["seed"]): one["accuracy"] for one in trainings},
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "losses": [statistics.fmean(epoch) for epoch in losses],
        "seconds": statistics.fmean(one["seconds"] for one in trainings),
    }


def _print(found: Mapping[str, Json]) -> None:
    ours = found["grouped"]["mean"]
    rows = [
        {
            "trainer": variant,
            **{f"seed {seed}": f"{value:.2f}" for seed, value in one["seeds"].items()},
            "mean": f"{one['mean']:.2f}",
            "sd": "" if one["sd"] is None else f"{one['sd']:.2f}",
            "ours above it": f"{ours - one['mean']:+.2f}",
            "training s": round(one["seconds"]),
        }
        for variant, one in found.items()
    ]
    show("Accuracy in percent on the validation split, weights of the last epoch", rows)
    epochs = range(len(found["grouped"]["losses"]))
    losses = [
        {"epoch": i + 1, **{name: f"{one['losses'][i]:.4f}" for name, one in found.items()}}
        for i in epochs
    ]
    show("Mean loss of each epoch, mean over seeds", losses)
