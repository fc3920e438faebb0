"""One long question among a thousand short ones: what it costs an epoch, in time and memory.

    python -m benchmarks.step.lengths [--rounds 7] [--json] [--out FILE]

Generated features in two shapes: small rows as of the tiny encoders, and real rows of 256 x 768 and
2048 numbers. Of 1,000 questions about 200 pictures, of 4 to 25 tokens each, one is exchanged for a
question of 250 tokens, which are about 1,000 characters. `short` trains without it, `long` with it,
and `whole` with it and without dividing its batch. Each runs in a fresh process once a round, in
random order. Prints medians, and medians of each round's ratio to `short`.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.generated import write_cache
from benchmarks.harness import Json, finish, fresh, machine, median, rounds, show
from benchmarks.step.data import easy_vqa_config, load_data, new_trainer, real_rows_config
from frozen_vqa.cache import CacheSpec
from frozen_vqa.pipeline.batches import plan
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device

VARIANTS = ("short", "long", "whole")
SHAPES = {"small rows": ((8, 8), 192, 128, 13), "real rows": ((16, 16), 768, 2048, 3129)}
"""Grid, size of a patch, size of a hidden state, answers."""

PICTURES, PER_PICTURE, DISTINCT, LONG = 211, 5, 500, 250
"""Ten pictures more than are trained on are for validation."""

EPOCHS = 3
"""The first one does not count."""


def settings(shape: str) -> TrainConfig:
    """Return the settings of a training; validation plays no part."""
    config = easy_vqa_config() if shape == "small rows" else real_rows_config()
    return replace(config, val_split="val", min_answer_count=1, epochs=EPOCHS)


def make(folder: Path, shape: str) -> None:
    """Write the cache of a shape."""
    grid, vision_dim, text_dim, answers = SHAPES[shape]
    model = {"model": "generated"}
    write_cache(
        folder,
        images=PICTURES,
        questions_per_image=PER_PICTURE,
        distinct_questions=DISTINCT,
        answers=answers,
        spec=CacheSpec(model, model, grid=grid, vision_dim=vision_dim, text_dim=text_dim),
        one_long=LONG,
    )


def one(folder: Path, shape: str, variant: str) -> Json:
    """Train a few epochs; return seconds of wall and CPU of one, and the peak of memory."""
    config = settings(shape)
    data = load_data(folder, config)
    train = data.splits["train"]
    if variant != "short":
        asked = train.question_rows.copy()
        asked[len(train) // 2] = DISTINCT
        train = replace(train, question_rows=asked)
        data = replace(data, splits={**data.splits, "train": train})
    if variant == "whole":
        plan.PART = 1 << 40  # no other part is worth that
    trainer = new_trainer(data, config, choose_device("auto"))
    wall, cpu = [], []
    for number in range(EPOCHS):
        began = time.perf_counter(), time.process_time()
        trainer.epoch(number)
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": min(wall[1:]), "cpu": min(cpu[1:]), "peak": peak, "questions": len(train)}


def summary(found: dict[str, list[Json]]) -> list[Json]:
    """Return a row for each shape and variant."""
    rows = []
    for shape in SHAPES:
        short = found[f"{shape}/short"]
        for variant in VARIANTS:
            results = found[f"{shape}/{variant}"]
            row: Json = {"rows": shape, "epoch of": variant}
            for what in ("wall", "cpu", "peak"):
                ratios = [r[what] / s[what] for r, s in zip(results, short, strict=True)]
                row[what] = median([result[what] for result in results])
                row[f"{what} ratio"] = median(ratios)
            rows.append(row)
    return rows


def main() -> None:
    """Measure all, or one variant in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", nargs=3, metavar=("CACHE", "SHAPE", "VARIANT"))
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    if options.one:
        console.quiet = True
        cache, shape, variant = options.one
        print(json.dumps(one(Path(cache), shape, variant)))
        return
    with tempfile.TemporaryDirectory() as folder:
        tasks = {}
        for shape in SHAPES:
            cache = Path(folder) / shape.partition(" ")[0]
            make(cache, shape)
            for variant in VARIANTS:
                arguments = ["--one", cache, shape, variant]
                tasks[f"{shape}/{variant}"] = partial(_fresh, arguments)
        result: Json = {"machine": machine(), "rows": summary(rounds(tasks, options.rounds))}
    show("one long question among 1,000", result["rows"])
    finish(result, as_json=options.json, path=options.out)


def _fresh(arguments: list[object], _: int) -> Json:
    return fresh("benchmarks.step.lengths", arguments)


if __name__ == "__main__":
    main()
