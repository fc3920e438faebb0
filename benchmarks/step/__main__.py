"""Our training step beside a usual trainer, plain order, and no cache at all.

    python -m benchmarks.step [--cache DIR] [--rounds 5] [--seconds 10] [--quick]
                              [--json] [--out FILE]
    python -m benchmarks.step --accuracy --cache DIR --out FILE [--seeds 3] [--epochs N] [--json]

Measures questions per second of training on two caches. Small rows are those of --cache, made from
easy-VQA as the README says, or of generated scenes and the tiny encoders. Real rows are generated
features of 256 x 768 and 2048 numbers with 5.4 questions a picture. `variant.py` lists the
trainers. Each runs in a fresh process once a round, in random order, and each round has its own
order of questions; the first round does not count. Prints medians; a ratio is ours over the other.

    usual_trainer      ours over h5py with one-row chunks and a DataLoader of 2 workers, small rows
    plain_order        grouped over plain, small rows; with _float32 where neither is in bfloat16
    share_of_peak      what ours computes a second in matrix products, over what one large product
                       does in the same process and type
    encoders_in_loop   ours over `encoders_in_loop.py` (a sample of a few steps), real rows

--accuracy trains ours, ours in plain order and the usual trainer to the end with each seed, and
compares accuracies and losses. A training whose settings FILE already holds is not repeated.
--quick does less of everything: it shows that the benchmark works, but its numbers mean little.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.harness import Json, finish, fresh, machine, median, rounds, show, spread
from benchmarks.step.accuracy import accuracies
from benchmarks.step.data import (
    KEPT,
    easy_vqa_config,
    make_real_rows,
    make_shapes,
    real_rows_config,
)
from benchmarks.step.variant import IN_FLOAT32, VARIANTS
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.system.console import console

VARIANT, IN_LOOP = "benchmarks.step.variant", "benchmarks.step.encoders_in_loop"
ENDLESS = 1_000_000
"""Epochs of a training that is stopped by the clock."""

TIMEOUT = 3600.0


@dataclass(frozen=True)
class Amounts:
    """How much is measured.

    Attributes:
        scenes: Generated scenes, if no cache is given.
        images: Pictures of real size.
        batch_size: Questions in a batch of real rows.
        small: The trainers that are measured on small rows,
        real: and on real ones.
        rounds: That count.
        warm_rounds: Before them.
        seconds: Of one measurement, at least.
        warmup: Steps before it.
        steps: Of one measurement, at least.
        in_loop: Processes with the encoders in the loop.
        in_loop_steps: Steps of each that count.
    """

    scenes: int = 2000
    images: int = 1000
    batch_size: int = 256
    small: tuple[str, ...] = (*VARIANTS, *IN_FLOAT32)
    real: tuple[str, ...] = VARIANTS
    rounds: int = 5
    warm_rounds: int = 1
    seconds: float = 10.0
    warmup: int = 3
    steps: int = 3
    in_loop: int = 2
    in_loop_steps: int = 2


QUICK = Amounts(
    scenes=200,
    images=64,
    batch_size=32,
    small=("grouped", "plain", "usual-2", "usual-best-2"),
    real=("grouped", "plain", "usual-2"),
    rounds=1,
    warm_rounds=0,
    seconds=0.5,
    warmup=2,
    steps=2,
    in_loop=1,
    in_loop_steps=1,
)


@dataclass(frozen=True)
class Place:
    """A cache, how to train on it, and where the usual trainers' files of it lie."""

    cache: Path
    config: TrainConfig
    scratch: Path
    kept: float = 1.0

    def arguments(self, seed: int) -> list[object]:
        """Return the command line of a trainer, after the variant's name."""
        config = asdict(replace(self.config, seed=seed, order_seed=seed, epochs=ENDLESS))
        return [self.cache, "--config", json.dumps(config), "--kept", self.kept]


def make_places(folder: Path, cache: Path | None, amounts: Amounts) -> dict[str, Place]:
    """Make what is not there of the two caches."""
    for name in ("small", "real"):
        (folder / f"usual-{name}").mkdir()
    if cache is None:
        cache = folder / "shapes"
        make_shapes(cache, amounts.scenes)
    make_real_rows(folder / "real", amounts.images)
    os.sync()  # what is still to be written would otherwise be written during the measurements
    real = replace(real_rows_config(), batch_size=amounts.batch_size)
    return {
        "small_rows": Place(cache, easy_vqa_config(), folder / "usual-small"),
        "real_rows": Place(folder / "real", real, folder / "usual-real", KEPT),
    }


def measure(places: Mapping[str, Place], amounts: Amounts) -> dict[str, dict[str, list[Json]]]:
    """Return what every process found, by cache and variant."""
    tasks: dict[str, Callable[[int], Json]] = {}
    for name, place in places.items():
        for variant in amounts.small if name == "small_rows" else amounts.real:
            tasks[f"{name}/{variant}"] = partial(_speed, place, variant, amounts)
    if amounts.warm_rounds:
        rounds(tasks, amounts.warm_rounds)
    found = rounds(tasks, amounts.rounds)
    in_loop = {"real_rows/in-loop": partial(_in_loop, places["real_rows"], amounts)}
    found |= rounds(in_loop, amounts.in_loop)
    by_cache: dict[str, dict[str, list[Json]]] = {name: {} for name in places}
    for task, results in found.items():
        name, _, variant = task.partition("/")
        by_cache[name][variant] = results
    return by_cache


def _speed(place: Place, variant: str, amounts: Amounts, seed: int) -> Json:
    limits = ["--seconds", amounts.seconds, "--warmup", amounts.warmup, "--steps", amounts.steps]
    arguments = [variant, *place.arguments(seed), "--scratch", place.scratch, *limits]
    return fresh(VARIANT, arguments, timeout=TIMEOUT)


def _in_loop(place: Place, amounts: Amounts, seed: int) -> Json:
    quick = ["--quick"] if amounts is QUICK else []
    arguments = [*place.arguments(seed), "--steps", amounts.in_loop_steps, *quick]
    return fresh(IN_LOOP, arguments, timeout=TIMEOUT)


def summary(found: Mapping[str, Mapping[str, list[Json]]]) -> Json:
    """Return medians and the ratios between them."""
    speeds = {
        name: {
            variant: median([result["questions_per_second"] for result in results])
            for variant, results in variants.items()
        }
        for name, variants in found.items()
    }
    waits = {
        name: median([result["data_wait_fraction"] for result in variants["grouped"]])
        for name, variants in found.items()
    }
    small, real = (_ratios(speeds[name]) for name in ("small_rows", "real_rows"))
    return {
        "ratios": {
            "usual_trainer": small["usual-2"],
            "usual_trainer_best": small["usual-best"],
            "plain_order": small["plain"],
            "plain_order_float32": _in_float32(speeds["small_rows"]),
            "encoders_in_loop": real["in-loop"],
            "usual_trainer_real_rows": real["usual-2"],
            "usual_trainer_best_real_rows": real.get("usual-best"),
            "plain_order_real_rows": real["plain"],
        },
        "data_wait_fraction": max(waits.values()),
        "data_wait_fractions": waits,
        "encoders_in_loop_dtype": found["real_rows"]["in-loop"][0]["encoder_dtype"],
        "questions_per_second": speeds,
        "share_of_peak": {
            name: {
                variant: median([result["share_of_peak"] for result in results])
                for variant, results in variants.items()
                if "share_of_peak" in results[0]
            }
            for name, variants in found.items()
        },
        "spread": {
            name: {
                variant: spread([result["questions_per_second"] for result in results])
                for variant, results in variants.items()
            }
            for name, variants in found.items()
        },
    }


def _in_float32(speeds: Mapping[str, float]) -> float | None:
    grouped, plain = (speeds.get(variant) for variant in IN_FLOAT32)
    return grouped / plain if grouped and plain else None


def _ratios(speeds: Mapping[str, float]) -> dict[str, float]:
    """Return ours over each variant, and over the faster of the usual trainer's best settings."""
    ratios = {variant: speeds["grouped"] / speed for variant, speed in speeds.items()}
    best = [ratio for variant, ratio in ratios.items() if variant.startswith("usual-best")]
    return ratios | ({"usual-best": min(best)} if best else {})


def print_tables(result: Json) -> None:
    """Print what was found."""
    for name, speeds in result["questions_per_second"].items():
        rows = [
            {
                "trainer": variant,
                "questions/s": speed,
                "spread": result["spread"][name][variant],
                "ours over it": speeds["grouped"] / speed,
            }
            for variant, speed in speeds.items()
        ]
        for row in rows:
            share = result["share_of_peak"][name].get(row["trainer"])
            row["of the peak"] = "" if share is None else f"{share:.2f}"
        waited = 100 * result["data_wait_fractions"][name]
        show(f"{name}: {result['caches'][name]}; ours waited {waited:.3f} % for data", rows)


def run_speed(cache: Path | None, amounts: Amounts) -> Json:
    """Measure the speed of all trainers on both caches."""
    with tempfile.TemporaryDirectory() as folder:
        started_on = machine()
        places = make_places(Path(folder), cache, amounts)
        found = summary(measure(places, amounts))
    small = f"{cache.name}" if cache else f"{amounts.scenes:,} generated scenes, tiny encoders"
    real = f"{amounts.images:,} pictures of 256 x 768, 5.4 questions each, 2048 numbers a token"
    stand_in = "one layer of each encoder, " if amounts is QUICK else ""
    result = {
        "machine": started_on,
        "quick": amounts is QUICK,
        "amounts": asdict(amounts),
        "caches": {
            "small_rows": f"{small}, width {places['small_rows'].config.width}",
            "real_rows": f"{real}, width {places['real_rows'].config.width}",
        },
        **found,
    }
    print_tables(result)
    console.print(
        f"in-loop: DINOv2-base and Llama-3.2-1B, random weights, {stand_in}"
        f"{found['encoders_in_loop_dtype']}; each picture encoded once a batch"
    )
    return result


def main() -> None:
    """Measure speed or accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, help="cache of easy-VQA, made as the README says")
    parser.add_argument("--rounds", type=int, default=Amounts.rounds)
    parser.add_argument("--seconds", type=float, default=Amounts.seconds, help="per measurement")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--accuracy", action="store_true", help="train to the end, a seed a time")
    parser.add_argument("--seeds", type=int, default=3, help="of --accuracy")
    parser.add_argument("--epochs", type=int, help="of --accuracy, in place of the setting's")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    if options.accuracy:
        if options.cache is None or options.out is None:
            parser.error("--accuracy needs --cache and --out")
        config = easy_vqa_config()
        config = replace(config, epochs=options.epochs or config.epochs)
        result = accuracies(options.cache, config, seeds=options.seeds, path=options.out)
    else:
        amounts = replace(Amounts(), rounds=options.rounds, seconds=options.seconds)
        result = run_speed(options.cache, QUICK if options.quick else amounts)
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
