"""The `evaluate` command: score a head or several seeds of it, and compare it with other heads."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.commands.tables import (
    Row,
    require_table_ending,
    show_comparison,
    show_evaluation,
    show_seeds,
    write_table,
)
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.caveats import warn_of_training_data, warn_of_training_split
from frozen_vqa.pipeline.evaluate.compare import compare
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup, group_runs, require_one_group
from frozen_vqa.pipeline.evaluate.variants import assign_other_images, ensemble
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules
from frozen_vqa.pipeline.runs.run import Run, load_run, open_cache, require_same_encoders
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
    """Score `runs`, then everything that stands beside them; see `cli.evaluate`."""
    if table:
        require_table_ending(table)
    used = choose_device(device)
    trained = [load_run(path, used) for path in runs]
    others = [load_run(path, used) for path in compare_with]
    require_one_group(trained)
    members = [trained[0], *(load_run(path, used) for path in ensemble_with)]
    averaged = ensemble(members) if ensemble_with else None
    features = open_cache(trained[0], cache)
    for run in members:
        require_same_encoders(run, features)
    name = split or trained[0].config.val_split
    if compare_with or shuffle_images or table or len(trained) > 1:
        _require_answers(features, name)
    warnings = _warn(trained, members, others, features, name)

    score = partial(evaluate, cache=features, split=name, rules=rules)
    ours = SeedGroup(tuple(score(run, keep_logits=save_logits) for run in trained))
    for head in ours.heads:
        show_evaluation(head)
    if len(trained) > 1:
        show_seeds(ours)
    found = ours.to_json()
    rows = [Row(ours)]
    # A single head is compared with each run by itself; several seeds with several seeds.
    groups = group_runs(others) if len(trained) > 1 else [[run] for run in others]
    if groups:
        found["compare"] = [
            _compare(rows, SeedGroup(tuple(score(run, write=False) for run in group)))
            for group in groups
        ]
    if shuffle_images:
        images = assign_other_images(features.split(name).image_rows)
        shuffle = partial(score, variant="shuffled-images", image_rows=images)
        found["shuffled_images"] = _compare(rows, SeedGroup(tuple(map(shuffle, trained))))
    if averaged:
        one = score(averaged, variant="ensemble", keep_logits=save_logits)
        show_evaluation(one)
        result = _compare(rows, SeedGroup((one,))) if one.accuracy else one.to_json()
        found["ensemble"] = {"members": [str(run.path) for run in members], **result}
    if table:
        write_table(table, rows)
        console.print(f"table: {table}", soft_wrap=True)
    return found | ({"warnings": warnings} if warnings else {})


def _warn(
    trained: Sequence[Run],
    members: Sequence[Run],
    others: Sequence[Run],
    cache: FeatureCache,
    split: str,
) -> list[str]:
    """Print and return what makes the scores or the comparisons mean less."""
    warnings: list[str] = []
    for run in (*trained, *members[1:], *others):
        warnings += warn_of_training_split(run, cache, split)
    for other in (*trained[1:], *others):
        warnings += warn_of_training_data(trained[0], other)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    return warnings


def _compare(rows: list[Row], theirs: SeedGroup) -> dict[str, Any]:
    """Compare a group with the first row, show the result, add it to the rows and return it."""
    ours = rows[0].group
    differences = compare(ours, theirs)
    show_comparison(ours, theirs, differences)
    rows.append(Row(theirs, differences[0]))
    return {**theirs.to_json(), "rows": [row.to_json() for row in differences]}


def _require_answers(cache: FeatureCache, split: str) -> None:
    if not any(cache.split(split).answers):
        raise MetricError(
            f"{cache.directory}: split {split!r} has no answers, so there is nothing to compare "
            f"or to put in a table. Without --compare, --shuffle-images, --table and a second "
            f"--run, this command only writes its predictions to results.json."
        )
