"""The `evaluate` command: score a head or several seeds of it, and compare it with other heads.

A folder that is no run, and a cache or split that is not there, are said before torch is loaded.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.commands.tables import (
    Row,
    require_own_table,
    show_comparison,
    show_evaluation,
    show_seeds,
    write_table,
)
from frozen_vqa.pipeline.config import load_run_config
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.runs.description import open_cache, read_description
from frozen_vqa.pipeline.runs.held_out import read_split
from frozen_vqa.pipeline.system.console import beside_the_work, console, loading
from frozen_vqa.pipeline.system.device import choose_device

if TYPE_CHECKING:  # these import torch
    from frozen_vqa.pipeline.evaluate.clusters import By
    from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
    from frozen_vqa.pipeline.runs.run import Run


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
    report: bool,
    metric: str | None,
    cluster_by: "By",
    device: str,
) -> dict[str, Any]:
    """Score `runs`, then everything that stands beside them; see `parse.heads.evaluate`."""
    if table:
        require_own_table(table)
    for path in (*runs, *compare_with, *ensemble_with):
        read_description(path)
    features = open_cache(runs[0], cache)
    name = split or load_run_config(runs[0]).validation
    read_split(features, name)
    if compare_with or shuffle_images or table or len(runs) > 1:
        _require_answers(features, name)

    with loading():
        from frozen_vqa.pipeline.evaluate.evaluate import evaluate
        from frozen_vqa.pipeline.evaluate.seed_groups import (
            SeedGroup,
            group_runs,
            require_one_group,
        )
        from frozen_vqa.pipeline.evaluate.variants import assign_other_images, ensemble
        from frozen_vqa.pipeline.runs.run import features_of, load_run

        used = choose_device(device)
    trained = [load_run(path, used) for path in runs]
    if report:
        trained[0].require_no_needs("a report shows a question and one picture")
    others = [load_run(path, used) for path in compare_with]
    require_one_group(trained)
    members = [trained[0], *(load_run(path, used) for path in ensemble_with)]
    averaged = ensemble(members) if ensemble_with else None
    for run in members:
        features_of(run, features)  # or say that they are of other encoders
    warnings = _warn(trained, members, others, features, name)

    score = partial(evaluate, cache=features, split=name, metric=metric, cluster_by=cluster_by)
    ours = SeedGroup(tuple(score(run, keep_logits=save_logits) for run in trained))
    lost: list[str] = []
    for head in ours.heads:
        show_evaluation(head)
        lost += head.not_written
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
        images = assign_other_images(read_split(features, name).picture_rows)
        shuffle = partial(score, variant="shuffled-images", image_rows=images)
        found["shuffled_images"] = _compare(rows, SeedGroup(tuple(map(shuffle, trained))))
    if averaged:
        one = score(averaged, variant="ensemble", keep_logits=save_logits)
        show_evaluation(one)
        lost += one.not_written
        result = _compare(rows, SeedGroup((one,))) if one.accuracy else one.to_json()
        found["ensemble"] = {"members": [str(run.path) for run in members], **result}
    if table:
        with beside_the_work(lost):
            write_table(table, rows)
            console.show(f"table: {table}")
    if report:
        found |= write_report_beside(trained[0], features, rows, lost)
    found |= {"warnings": warnings} if warnings else {}
    return found | ({"not_written": lost} if lost else {})


def _warn(
    trained: "Sequence[Run]",
    members: "Sequence[Run]",
    others: "Sequence[Run]",
    cache: FeatureCache,
    split: str,
) -> list[str]:
    """Print and return what makes the scores or the comparisons mean less."""
    from frozen_vqa.pipeline.evaluate.caveats import warn_of_training_data, warn_of_training_split

    warnings: list[str] = []
    for run in (*trained, *members[1:], *others):
        warnings += warn_of_training_split(run, cache, split)
    for other in (*trained[1:], *others):
        warnings += warn_of_training_data(trained[0], other)
    for warning in warnings:
        console.warn(warning)
    return warnings


def write_report_beside(
    run: "Run", cache: FeatureCache, rows: Sequence[Row], lost: list[str], *, brief: bool = False
) -> dict[str, str]:
    """Write the report of the first row, print its path and return it; `lost` says why if not.

    A brief report tests fewer maps.
    """
    from frozen_vqa.pipeline.report.page import BRIEF_MAPS, MAPS, Side, write_report

    sides = [Side(row.group, row.differences) for row in rows]
    with beside_the_work(lost):
        path = write_report(run, cache, sides, maps=BRIEF_MAPS if brief else MAPS)
        console.show(f"report: {path}")
        return {"report": str(path)}
    return {}


def _compare(rows: list[Row], theirs: "SeedGroup") -> dict[str, Any]:
    """Compare a group with the first row, show the result, add it to the rows and return it."""
    from frozen_vqa.pipeline.evaluate.compare import compare

    ours = rows[0].group
    differences = compare(ours, theirs)
    show_comparison(ours, theirs, differences)
    rows.append(Row(theirs, differences))
    return {**theirs.to_json(), "rows": [row.to_json() for row in differences]}


def _require_answers(cache: FeatureCache, split: str) -> None:
    table = read_split(cache, split)
    if not any(table.answers) and max(table.right_choices, default=-1) < 0:
        raise MetricError(
            f"{cache.name}: split {split!r} has no answers, so there is nothing to compare "
            f"or to put in a table. Without --compare, --shuffle-images, --table and a second "
            f"--run, this command only writes its predictions to results.json."
        )
