"""The `train-head` command: one head, or the heads of a sweep.

What is wrong with settings, cache or answers is said before torch is loaded.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.cache.format.parts import EACH
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.commands.evaluate import write_report_beside
from frozen_vqa.pipeline.commands.tables import Row
from frozen_vqa.pipeline.config import TrainConfig, load_config
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.plugins import is_own, trusted
from frozen_vqa.pipeline.runs.description import (
    caveats_of,
    load_resumed_config,
    no_state,
    read_description,
    recorded_cache,
)
from frozen_vqa.pipeline.runs.folder import (
    has_training,
    require_place,
    require_real_heads,
    require_sweep_folder,
)
from frozen_vqa.pipeline.sources.selection import split_like
from frozen_vqa.pipeline.system.console import beside_the_work, console, duration, loading
from frozen_vqa.pipeline.system.device import choose_device
from frozen_vqa.pipeline.system.ranks import Ranks, by_torchrun, torchrun_ranks
from frozen_vqa.pipeline.train.data import load_train_data
from frozen_vqa.pipeline.train.sweep_config import each_part, load_sweep

if TYPE_CHECKING:  # these import torch
    import torch

    from frozen_vqa.pipeline.batches.residency import Residency
    from frozen_vqa.pipeline.train.loop import TrainResult
    from frozen_vqa.pipeline.train.sweep import SweepResult

VAL, HELD_OUT = "val", 0.1
"""The split that validates, and the share of training pictures that does where there is none."""


def train_command(
    *,
    cache: Path | None,
    run: Path,
    config: Path | None,
    sweep: Path | None,
    settings: Mapping[str, str | float | bool | None],
    overwrite: bool,
    resume: bool,
    residency: "Residency",
    tensorboard: bool,
    report: bool,
    device: str,
) -> dict[str, Any] | None:
    """Run stage two, or resume it; None from all ranks of `torchrun` but the first.

    `settings` win over those of the file, where they are not None. The file of a sweep takes the
    place of `config`. A training to resume knows its `cache`.
    """
    with torchrun_ranks() as ranks:
        each = {name for name in ("vision", "text_layer") if settings.get(name) == EACH}
        if each:
            heads = _each_part(cache, config, sweep, settings, each)
        else:
            heads = {} if sweep is None else load_sweep(sweep, settings)
        if heads and ranks.world > 1:
            raise ConfigError(
                f"--sweep and `{EACH}` train many heads in one process, and torchrun started "
                f"{ranks.world}; leave one of the two out"
            )
        if heads:
            chosen = next(iter(heads.values()))
        elif resume and not _begins(run, cache, ranks):
            chosen = ranks.tell(lambda: load_resumed_config(run, config, settings))
        else:
            # With --resume there is at most what was killed before its first state.
            resume, overwrite = False, overwrite or resume
            chosen = ranks.tell(lambda: load_config(config, settings))
        for name in {one.fusion for one in heads.values()} or {chosen.fusion}:
            if is_own(name):
                trusted(name, where=sweep or config or run, option="--fusion")
        require_real_heads(run, heads)
        if not resume and ranks.lead:
            for folder in [path_in(run, name) for name in heads] or [run]:
                require_place(folder, overwrite=overwrite)
            if heads:
                require_sweep_folder(run)
        cache = cache or ranks.tell(lambda: _cache_of(run, heads))
        if settings.get("val_split") is None:
            given, chosen = chosen, _with_held_out(cache, chosen)
            heads = {name: _with_held_out(cache, one) for name, one in heads.items()}
            if ranks.lead and chosen.val_fraction != given.val_fraction:
                console.print(
                    f"{cache}: no split {VAL!r}, so {100 * HELD_OUT:.0f} % of the pictures of "
                    f"{chosen.train_split!r} are held out to choose the best epoch (--val-fraction)"
                )
        data = None if resume else load_train_data(cache, chosen, ranks)
        if ranks.lead and chosen.keep == "best" and split_like(chosen.validation, ["test"]):
            console.print(
                f"warning: split {chosen.validation!r} chooses the best epoch, so a score there is "
                f"too high. Hold out a part of the training data instead by "
                f"--val-fraction 0.1"
            )

        with loading():
            from frozen_vqa.pipeline.train.sweep import sweep as train_sweep
            from frozen_vqa.pipeline.train.train import train

        how: dict[str, Any] = {
            "device": choose_device(device),
            "residency": residency,
            "overwrite": overwrite,
            "resume": resume,
            "tensorboard": tensorboard,
            "data": data,
        }
        if heads:
            passes = len({(one.vision, one.text_layer) for one in heads.values()})
            return _report_sweep(run, train_sweep(cache, run, heads=heads, **how), passes)
        result = train(cache, run, config=chosen, ranks=ranks, **how)
    if not ranks.lead:
        return None
    found = _report_head(run, result)
    return found | (_write_report(run, cache, found, how["device"]) if report else {})


def _begins(run: Path, cache: Path | None, ranks: Ranks) -> bool:
    """Return whether `--resume` begins a training, because there is none to continue.

    It does so under torchrun alone, which starts a command that has failed once more as it was.
    """
    if not by_torchrun():
        return False
    here = int(has_training(run))
    (somewhere,) = ranks.largest(here)
    if somewhere and not ranks.agree(here):
        raise RunError(
            f"{run}: another machine has this training, but that of the first rank, which alone "
            f"reads and writes it, does not. Give --run a folder that all machines see, or copy it "
            f"there."
        )
    if somewhere or cache is None:
        return False
    console.print(f"{run}: nothing to resume here, so the training begins")
    return True


def _each_part(
    cache: Path | None,
    config: Path | None,
    sweep: Path | None,
    settings: Mapping[str, str | float | bool | None],
    each: Set[str],
) -> dict[str, TrainConfig]:
    """Return a head for each part of a cache's features."""
    if sweep is not None:
        raise ConfigError(
            f"--sweep names the heads, and so does {EACH!r}; list the parts in the file instead, "
            f'as vision = ["NAME", "NAME"]'
        )
    if cache is None:
        raise ConfigError(f"{EACH!r} needs the cache, also with --resume: train-head CACHE ...")
    chosen = load_config(config, {k: v for k, v in settings.items() if k not in each})
    return each_part(cache, chosen, each)


def _with_held_out(cache: Path, config: TrainConfig) -> TrainConfig:
    """Return settings that validate on what a cache has, if the user has named no split for it.

    That is a split of another usual name for "val", or a part of the training pictures.
    """
    splits = load_manifest(cache).splits
    if config.validation != VAL or VAL in splits or config.train_split not in splits:
        return config
    if (alike := split_like(VAL, list(splits))) and alike != config.train_split:
        return replace(config, val_split=alike)
    return replace(config, val_fraction=HELD_OUT)


def _cache_of(run: Path, heads: Iterable[str]) -> Path:
    """Return the cache of a training to resume, or of the first head of a sweep that has begun."""
    folders = [path_in(run, name) for name in heads] or [run]
    begun = next((one for one in folders if (one / "run.json").exists()), None)
    if begun is None:
        raise no_state(run)
    return recorded_cache(begun)


def _write_report(
    run: Path, cache: Path, found: Mapping[str, Any], device: "torch.device"
) -> dict[str, Any]:
    """Evaluate a finished head on its validation split and write a brief report of it."""
    from frozen_vqa.pipeline.evaluate.evaluate import evaluate
    from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
    from frozen_vqa.pipeline.runs.run import load_run

    lost: list[str] = list(found.get("not_written", ()))
    written: dict[str, Any] = {}
    with beside_the_work(lost):
        head, features = load_run(run, device), FeatureCache(cache)
        if head.needs:
            console.print(f"{run}: no report, because the head reads {head.needs}")
            return {}
        scored = evaluate(head, features, head.config.validation)
        row = Row(SeedGroup((scored,)))
        written = dict(write_report_beside(head, features, [row], lost, brief=True))
    return written | ({"not_written": lost} if lost else {})


def _warn_of_encoders(run: Path) -> dict[str, list[str]]:
    """Print and return what the scores of a run need beside them."""
    caveats = caveats_of(read_description(run).encoders)
    for caveat in caveats:
        console.warn(caveat)
    return {"caveats": caveats} if caveats else {}


def _report_head(run: Path, result: "TrainResult") -> dict[str, Any]:
    console.show(
        f"{run}: best accuracy {result.best_accuracy:.2f} % after epoch {result.best_epoch}, "
        f"{result.trainable_parameters:,} parameters, {result.questions_per_second:,.0f} "
        f"questions/s, {100 * result.data_wait_fraction:.1f} % of the time waiting for data, "
        f"{duration(result.seconds)}"
    )
    return result.to_json() | _warn_of_encoders(run)


def _report_sweep(run: Path, result: "SweepResult", passes: int) -> dict[str, Any]:
    """Print the heads of a sweep, the most accurate one first; `passes` over the data made them."""
    table = Table()
    for title in ("", "head", "accuracy, %", "epoch", "parameters"):
        table.add_column(title, justify="left" if title == "head" else "right")
    for rank, (name, head) in enumerate(result.heads.items(), start=1):
        table.add_row(
            str(rank),
            name,
            f"{head.best_accuracy:.2f}",
            f"{head.best_epoch}/{head.epochs}",
            f"{head.trainable_parameters:,}",
        )
    for name in result.failed:
        table.add_row("", name, "failed", "", "")
    console.show(table)
    often = "one pass" if passes == 1 else f"{passes} passes"
    console.show(f"{len(result.heads)} heads in {often}, {duration(result.seconds)}")
    lost = [line for head in result.heads.values() for line in head.not_written]
    return {
        **({"not_written": lost} if lost else {}),
        "run": str(run),
        "heads": [{"name": name, **head.to_json()} for name, head in result.heads.items()],
        "failed": dict(result.failed),
        **_warn_of_encoders(path_in(run, next(iter(result.heads)))),
        "seconds": result.seconds,
    }
