"""One setting changed at a time, each trained with several seeds.

    python -m benchmarks.accuracy.ablations [--scenes 1500] [--cache DIR --config FILE]
        [--epochs N] [--seeds 3] [--quick] [--json] [--out FILE] [--table FILE]

Trains on generated scenes with the tiny encoders, or on --cache with the settings of --config. A
training whose settings the FILE of --out already holds is not repeated. --table writes all
trainings in that file as a page in Markdown. Speed is in questions per second of processor time, so
that other work on the machine does not change it. --quick does less of everything: it shows that
the benchmark works, but its numbers mean little.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Json, finish, machine, show
from benchmarks.step.data import load_data, make_shapes, new_trainer
from frozen_vqa.pipeline.config import TrainConfig, load_config
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.system.console import console

DEFAULT = "all defaults"
CHOICES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    'fusion = "text-to-image"': {"fusion": "text-to-image"},
    'fusion = "concat"': {"fusion": "concat"},
    'fusion = "concat", pooling = "mean"': {"fusion": "concat", "pooling": "mean"},
    "layers = 2": {"layers": 2},
    "text_self_attention = true": {"text_self_attention": True},
    "both of these": {"layers": 2, "text_self_attention": True},
    "layers = 6, text_self_attention = true": {"layers": 6, "text_self_attention": True},
    'merge = "gated"': {"merge": "gated"},
    'pooling = "mean"': {"pooling": "mean"},
    "feature_dropout = 0.1": {"feature_dropout": 0.1},
    "dropout = 0.1": {"dropout": 0.1},
    "position_embedding = false": {"position_embedding": False},
    "post_norm = true": {"post_norm": True},
    "group_by_image = false": {"group_by_image": False},
}
"""What is changed. What is no change of a study's settings is left out of it."""

RELATIONS = ("comparison", "spatial relation")
"""Question types of the scenes that ask about two objects at once."""


def train(cache: Path, config: TrainConfig) -> Json:
    """Train to the end; return what the head knows then, and what it took."""
    trainer = new_trainer(load_data(cache, config), config, torch.device("cpu"))
    started = time.process_time()
    losses = [trainer.epoch(number) for number in range(config.epochs)]
    seconds = time.process_time() - started
    split = trainer.val_split
    scores = trainer.val_scores.score(
        predict([trainer.model], trainer.val_reader, split, batch_size=config.batch_size)[0]
    )
    types = split.question_types
    of_relations = [score for score, kind in zip(scores, types, strict=True) if kind in RELATIONS]
    return {
        "accuracy": 100 * float(scores.mean()),
        "relations": 100 * statistics.fmean(of_relations) if of_relations else None,
        "loss": losses[-1],
        "questions_per_second": config.epochs * len(trainer.train_split) / seconds,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
    }


def study(cache: Path, config: TrainConfig, *, seeds: int, name: str, path: Path) -> Json:
    """Train what the file does not hold yet; write it after each training and return all of it.

    Args:
        cache: Holds both splits.
        config: Of all trainings, but for the seed and what is changed.
        seeds: 0 to this, exclusive.
        name: Of the study in the file, beside the settings.
        path: The file.
    """
    usual = asdict(replace(config, seed=0))
    result: Json = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if result.get(name, {}).get("settings") != usual:
        result[name] = {"machine": machine(), "settings": usual, "trainings": []}
    trainings = result[name]["trainings"]
    result[name]["commands"] = list(
        dict.fromkeys([*result[name].get("commands", []), shlex.join(["python", *sys.argv])])
    )
    done = {(one["choice"], one["seed"]) for one in trainings}
    for seed in range(seeds):
        for choice, settings in CHOICES.items():
            chosen = replace(config, **settings)
            if (choice, seed) in done or (settings and chosen == config):
                continue
            found = train(cache, replace(chosen, seed=seed))
            trainings.append({"choice": choice, "seed": seed, **found})
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            console.print(
                f"{choice}, seed {seed}: {found['accuracy']:.2f} % in {found['seconds']:.0f} s"
            )
    return result


def summary(trainings: Sequence[Json]) -> list[dict[str, str]]:
    """Return a row for each choice: means over seeds, and how far it is from all defaults."""
    first = [one["accuracy"] for one in trainings if one["choice"] == DEFAULT]
    rows = []
    for choice in CHOICES:
        found = [one for one in trainings if one["choice"] == choice]
        if not found or not first:
            continue
        accuracies = [one["accuracy"] for one in found]
        relations = [one["relations"] for one in found if one["relations"] is not None]
        change = statistics.fmean(accuracies) - statistics.fmean(first)
        rows.append(
            {
                "changed": f"`{choice}`" if "=" in choice else choice,
                "accuracy": _mean_sd(accuracies),
                "against defaults": "" if choice == DEFAULT else f"{change:+.2f}",
                **({"relations": _mean_sd(relations)} if relations else {}),
                "questions/s": f"{statistics.fmean(o['questions_per_second'] for o in found):,.0f}",
                "parameters": f"{found[0]['parameters']:,}",
                "seeds": str(len(found)),
            }
        )
    return rows


def _mean_sd(values: Sequence[float]) -> str:
    sd = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{sd}"


def page(result: Mapping[str, Json]) -> str:
    """Return all studies as a page in Markdown."""
    lines = [
        "# What each choice brings",
        "",
        "One setting changes at a time. Accuracy is that of the last epoch in percent, as mean ± "
        "standard deviation over seeds. `relations` are questions about two objects at once (half "
        "of the answers are yes). Questions per second are of one core's processor time. A "
        "difference within the spread of seeds decides nothing. Made by "
        "`python -m benchmarks.accuracy.ablations`.",
    ]
    for name, found in result.items():
        usual = asdict(TrainConfig())
        settings = {k: v for k, v in found["settings"].items() if v != usual[k]}
        rows = summary(found["trainings"])
        lines += ["", f"## {name}", "", *(f"    {command}" for command in found["commands"]), ""]
        lines += [
            "Settings other than the defaults: "
            + (", ".join(f"`{k} = {json.dumps(v)}`" for k, v in settings.items()) or "none")
            + ".",
            "",
        ]
        if rows:
            lines += [_line(rows[0]), _line(["---"] * len(rows[0]))]
            lines += [_line(row.values()) for row in rows]
        machine_of = found["machine"]
        lines += [
            "",
            f"Measured on {machine_of['cpu']}, torch {machine_of['torch']}, "
            f"with a load of {machine_of['load_at_start']} at the start.",
        ]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train what is asked for and show all that is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", type=int, default=1500, help="generated, if no cache is given")
    parser.add_argument("--cache", type=Path, help="train on this cache")
    parser.add_argument("--config", type=Path, help="with these settings")
    parser.add_argument("--epochs", type=int, help="in place of the setting's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON, and what it holds is kept")
    parser.add_argument("--table", type=Path, help="file for the page in Markdown")
    options = parser.parse_args()
    scenes, seeds = (40, 1) if options.quick else (options.scenes, options.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        path = options.out or Path(scratch) / "ablations.json"
        if options.cache:
            cache, name = options.cache, f"The cache `{options.cache.name}`"
            config = load_config(options.config, {})
        else:
            cache, name = Path(scratch) / "cache", f"{scenes:,} generated scenes"
            config = replace(TrainConfig(), width=64, batch_size=128, epochs=12, val_split="test")
            make_shapes(cache, scenes)
        config = replace(config, epochs=1 if options.quick else options.epochs or config.epochs)
        result = study(cache, config, seeds=seeds, name=name, path=path)
    show(name, summary(result[name]["trainings"]))
    if options.table:
        options.table.write_text(page(result), encoding="utf-8")
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
