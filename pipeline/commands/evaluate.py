"""What `evaluate` does: score a head or several seeds of it, and set others beside it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.commands.paper_table import Row, require_table_ending, write_table
from frozen_vqa.pipeline.commands.tables import show_differences, show_evaluation, show_seeds
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.caveats import trained_on, trained_otherwise
from frozen_vqa.pipeline.evaluate.compare import compare_sides
from frozen_vqa.pipeline.evaluate.ensemble import ensemble
from frozen_vqa.pipeline.evaluate.evaluate import Evaluation, evaluate
from frozen_vqa.pipeline.evaluate.seed_groups import (
    require_one_side,
    side_json,
    side_name,
    sides,
    spreads,
)
from frozen_vqa.pipeline.evaluate.shuffled_images import shuffled_images
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules
from frozen_vqa.pipeline.runs.run import load_run, require_same_encoders
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device


def evaluate_command(
    *,
    runs: Sequence[Path],
    cache: Path | None,
    split: str | None,
    compare_with: Sequence[Path],
    ensemble_with: Sequence[Path],
    shuffle_images: bool,
    save_logits: bool,
    table: Path | None,
    rules: Rules | None,
    device: str,
) -> dict[str, Any]:
    """Score one side, then all that was asked to stand beside it."""
    if table:
        require_table_ending(table)
    place = choose_device(device)
    trained = [load_run(path, place) for path in runs]
    others = [load_run(path, place) for path in compare_with]
    require_one_side(trained)
    several = [trained[0], *(load_run(path, place) for path in ensemble_with)]
    together = ensemble(several) if ensemble_with else None
    features = FeatureCache(cache or trained[0].cache)
    for run in several:
        require_same_encoders(run, features)
    name = split or trained[0].config.val_split
    if compare_with or shuffle_images or table or len(trained) > 1:
        _require_answers(features, name)
    warnings = [text for run in (*trained, *several[1:], *others) for text in trained_on(run, name)]
    for other in (*trained[1:], *others):
        warnings += trained_otherwise(trained[0], other)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)

    scored = partial(evaluate, cache=features, split=name, rules=rules)
    beside = _Beside([_shown(scored(run, keep_logits=save_logits)) for run in trained])
    found = side_json(beside.ours)
    # Against one head each run stands by itself; against several seeds, so do seeds.
    groups = sides(others) if len(trained) > 1 else [[run] for run in others]
    if groups:
        found["compare"] = [beside.add([scored(run) for run in group]) for group in groups]
    if shuffle_images:
        wrong = shuffled_images(features.split(name).image_rows)
        shuffled = partial(scored, variant="shuffled-images", image_rows=wrong)
        found["shuffled_images"] = beside.add([shuffled(run) for run in trained])
    if together:
        one = _shown(scored(together, variant="ensemble", keep_logits=save_logits))
        members = {"members": [str(run.path) for run in several]}
        found["ensemble"] = members | (beside.add([one]) if one.accuracy else one.to_json())
    if table:
        write_table(table, beside.rows)
        console.print(f"table: {table}", soft_wrap=True)
    return found | ({"warnings": warnings} if warnings else {})


def _shown(evaluation: Evaluation) -> Evaluation:
    show_evaluation(evaluation)
    return evaluation


class _Beside:
    """One side, and what is set beside it, shown as it comes."""

    def __init__(self, ours: Sequence[Evaluation]) -> None:
        self.ours = ours
        self.rows = [Row(ours)]
        if len(ours) > 1:
            show_seeds(f"{side_name(ours)} on {ours[0].split}", spreads(ours))

    def add(self, theirs: Sequence[Evaluation]) -> dict[str, Any]:
        """Show the paired difference, and return it with what the other side scores."""
        differences = compare_sides(self.ours, theirs)
        names = side_name(self.ours), side_name(theirs)
        title = f"{_path(self.ours)} against {_path(theirs)} on {self.ours[0].split}"
        show_differences(title, names, differences)
        self.rows.append(Row(theirs, differences[0]))
        return {**side_json(theirs), "rows": [row.to_json() for row in differences]}


def _path(side: Sequence[Evaluation]) -> str:
    return str(side[0].run.with_name(side_name(side)))


def _require_answers(cache: FeatureCache, split: str) -> None:
    if not any(cache.split(split).answers):
        raise MetricError(
            f"{cache.directory}: split {split!r} has no answers, so there is nothing to compare "
            f"or to put in a table; without --compare, --shuffle-images, --table and a second "
            f"--run its questions are answered and written to results.json"
        )
