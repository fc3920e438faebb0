"""The whole pipeline: wall time and memory of every step, and how both grow.

    python -m benchmarks.end_to_end [--data DIR] [--quick] [--json] [--out FILE]

1. Everything: extract-features, train-head and evaluate, each in a fresh process, on generated
   scenes or on a folder that examples/easy_vqa_to_jsonl.py made.
2. Extraction beside the bare forward pass of its encoder (bare_encoder.py).
3. Growth: both stages with 1,000 to 64,000 pictures of small rows (growth.py, growth_turns.py).

"resident" is the most memory that the process held. "anonymous" is the most of it that no file
backs, sampled every 20 ms.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Before this folder, in which `pipeline` is this file.
from benchmarks.harness import Json, finish, fresh, machine, median, show, watched

SCENES, QUICK_SCENES = 2000, 60
SIZES, QUICK_SIZES = (1000, 4000, 16_000, 64_000), (200, 800)
TRAININGS = 3
"""Of each size, for what a start takes."""
EPOCHS = 2
"""Of the largest, beside which the others train."""


def everything(folder: Path, data: Path | None, scenes: int) -> list[Json]:
    """Time each command of a person who starts with pictures and questions."""
    if data:
        val = "val" if (data / "val.jsonl").exists() else "test"
        source = ["--dataset", f"jsonl:{data}", "--split", "train", "--split", val]
    else:
        val = "val"
        source = ["--dataset", f"shapes:{scenes}", "--split", "train", "--split", val]
    cache, run = folder / "cache", folder / "run"
    tiny = ["--vision-model", "tiny", "--text-model", "tiny"]
    settings = ["--epochs", 3, "--val-split", val, "--width", 128]
    settings += [] if data else ["--min-answer-count", 1]
    commands: dict[str, list[object]] = {
        "extract-features": [*source, "--cache", cache, *tiny],
        "train-head": ["--cache", cache, "--run", run, *settings],
        "evaluate": ["--run", run],
    }
    rows = []
    for name, words in commands.items():
        found = watched("frozen_vqa.cli", [name, *words, "--json"])
        rate = (found.get("extraction") or {}).get("images_per_second")
        rows.append(
            {
                "command": name,
                "wall": found["wall"],
                "resident_mb": found["resident_mb"],
                "anonymous_mb": found["anonymous_mb"],
                "images_per_second": rate,
                "questions_per_second": found.get("questions_per_second"),
            }
        )
    return rows


def growth(folder: Path, sizes: Sequence[int], trainings: int, epochs: int) -> Json:
    """Run both stages with ever more pictures."""
    script = "benchmarks.end_to_end.growth"
    extracted = []
    for size in sizes:
        made = watched(script, ["extract", folder / f"extracted-{size}", size])
        extracted.append(
            {
                "pictures": size,
                "seconds_per_1k": 1000 / made["images_per_second"],
                "resident_mb": made["resident_mb"],
                "anonymous_mb": made["anonymous_mb"],
            }
        )
    caches = [folder / f"cache-{size}" for size in sizes]
    for cache, size in zip(caches, sizes, strict=True):
        watched(script, ["write", cache, size])
    begun = []
    for cache, size in zip(caches, sizes, strict=True):
        runs = [folder / f"run-{size}-{number}" for number in range(trainings)]
        found = [watched(script, ["train", cache, run, time.monotonic()]) for run in runs]
        begun.append({"pictures": size, **_begun(found)})
    in_turn = fresh("benchmarks.end_to_end.growth_turns", [epochs, *caches], timeout=3600)
    return {"extract": extracted, "begin": begun, "train": in_turn["trained"]}


def _begun(trainings: Sequence[Json]) -> Json:
    """Return the medians of several trainings on as many pictures."""

    def middle(value: Callable[[Json], float]) -> float:
        return median([value(one) for one in trainings])

    return {
        "start_up": middle(lambda one: one["first_step"] - one["imports"]),
        "imports": middle(lambda one: one["imports"]),
        "resident_mb": middle(lambda one: one["resident_mb"]),
        "anonymous_mb": middle(lambda one: one["anonymous_mb"]),
    }


def facts(found: Json) -> list[Json]:
    """Return one row for each value, for a table that is not wide."""
    return [{"what": name, "found": value} for name, value in found.items()]


def uneven(rows: Sequence[Json], name: str) -> float:
    """Return the largest over the smallest: 1 where time grows exactly with the pictures."""
    values = [row[name] for row in rows]
    return float(max(values) / min(values))


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder for jsonl:, as of easy_vqa_to_jsonl.py")
    parser.add_argument("--quick", action="store_true", help="small, to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="write the JSON object to this file")
    options = parser.parse_args()
    result: Json = {"machine": machine(), "quick": options.quick}
    show("machine", facts(result["machine"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = QUICK_SCENES if options.quick else SCENES
        result["everything"] = everything(folder, options.data, scenes)
        show(f"everything, {options.data or f'shapes:{scenes}'}", result["everything"])
        quick = ["--quick"] if options.quick else []
        bare = fresh("benchmarks.end_to_end.bare_encoder", quick, timeout=3600)
        result |= {"extraction_of_bare_encoder": bare["ratio"], "bare_encoder": bare}
        show("extraction against the bare encoder", facts(bare))
        much = (QUICK_SIZES, 1, 1) if options.quick else (SIZES, TRAININGS, EPOCHS)
        found = growth(folder, *much)
        result["growth"] = found
        result["epoch_per_1k_uneven"] = uneven(found["train"], "epoch_per_1k")
        result["extraction_per_1k_uneven"] = uneven(found["extract"], "seconds_per_1k")
        show("growth of stage one (seconds)", found["extract"])
        show("growth of stage two: a training of one epoch (seconds)", found["begin"])
        show("growth of stage two: all in turn (seconds)", found["train"])
        names = ("extraction_of_bare_encoder", "epoch_per_1k_uneven", "extraction_per_1k_uneven")
        show("in short", facts({name: result[name] for name in names}))
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
