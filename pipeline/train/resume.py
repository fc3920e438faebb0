"""Checks that a training resumes as it began, and makes the files of a run agree with its state."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.cache import CacheMismatchError, FeatureCache, SplitTable
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary, load_vocabulary
from frozen_vqa.pipeline.config import ANSWERS, TrainConfig
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.runs.data import fingerprint_cache
from frozen_vqa.pipeline.runs.folder import (
    CURRENT,
    explain_run_write_errors,
    remove_results,
    weight_files,
)
from frozen_vqa.pipeline.runs.state import (
    TrainingFingerprint,
    TrainState,
    select_tensors,
    write_metrics,
)
from frozen_vqa.pipeline.runs.weights import Weights, load_weights, read_weights, save_weights
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import training_dtype
from frozen_vqa.pipeline.system.ranks import Ranks

SCHEDULE = ("epochs", "batch_size", "accumulate", "lr", "warmup", "group_by_image")
"""Settings on which the learning rate of a step depends."""
NO_MORE_EPOCHS = ": the learning rate falls to 0 at the last epoch, so none can be added"


def fingerprint_training(
    config: TrainConfig,
    cache: FeatureCache,
    splits: Mapping[str, SplitTable],
    files: Mapping[str, str],
    device: torch.device,
    ranks: Ranks,
) -> TrainingFingerprint:
    """Return the fingerprint of a training; `files` are the digests of the run's files."""
    machine = {
        "device": device.type,
        "ranks": ranks.world,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": str(training_dtype(config.precision, device)).removeprefix("torch."),
    }
    settings = asdict(config.without_folders())
    return TrainingFingerprint(settings, fingerprint_cache(cache, splits), files, machine)


def require_same_settings(run: Path, was: Mapping[str, Any], asked: TrainConfig) -> None:
    """Raise `ConfigError`, which names both values, unless the settings are the original ones."""
    now = asdict(asked.without_folders())
    was = asdict(TrainConfig()) | dict(was)  # a setting that is newer than the run had its default
    if not asked.shares:
        now["shares"] = was["shares"]  # as many as it began with
    changed = [name for name, value in now.items() if was.get(name) != value]
    if changed:
        found = "; ".join(
            f"{name} was {was.get(name)!r} when it began, and {getattr(asked, name)!r} is asked for"
            + (", another schedule" if name in SCHEDULE else "")
            + (NO_MORE_EPOCHS if name == "epochs" else "")
            for name in changed[:5]
        )
        raise ConfigError(
            f"{run}: {found}. A training continues with the settings that it began with: give "
            f"--resume without other settings, or train again with another --run."
        )


def require_same_fingerprint(
    run: Path, was: TrainingFingerprint, now: TrainingFingerprint, *, cache: object
) -> None:
    """Raise unless cache, files, device and ranks are the original ones.

    Raises `CacheMismatchError` with both values for the cache, and `RunError` for the others.
    """
    for name in {**was.cache, **now.cache}:
        if was.cache.get(name) != now.cache.get(name):
            raise CacheMismatchError(
                f"{cache}: {name} is {now.cache.get(name)!r}, and was {was.cache.get(name)!r} when "
                f"the training of {run} began. Give the cache that it began with, or train again "
                f"with another --run."
            )
    for name in {**was.files, **now.files}:
        if was.files.get(name) != now.files.get(name):
            raise RunError(
                f"{path_in(run, name)}: not the file that the training began with; it was changed "
                f"or damaged. Restore it from a copy, or train again with another --run."
            )
    for name, value in now.machine.items():
        before = was.machine.get(name)
        if before == value:
            continue
        if name == "device":
            raise RunError(
                f"{run}: its training began on {before}, and {value} is asked for, which rounds "
                f"differently. Give --device {before}."
            )
        if name == "ranks":
            raise RunError(
                f"{run}: its training began on {before} ranks of torchrun, and cannot continue on "
                f"{value}, which round sums and draw dropout differently. Start "
                f"{before} ranks, or train again with another --run."
            )
        console.print(
            f"{run}: began with {before} as {name}, continues with {value}; "
            f"numbers may be rounded differently than in an undisturbed training"
        )


def require_same_answers(run: Path, asked: Vocabulary, config: TrainConfig) -> None:
    """Raise `ConfigError`, which names the first difference, unless a file has the run's answers.

    They need not come from the same file, because the run has its own copy of them.
    """
    if not config.answers_file:
        return
    was, now = load_vocabulary(run / ANSWERS).answers, asked.answers
    if was == now:
        return
    other = [i for i, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1]]
    if other:
        found = f"answer {other[0] + 1} is {now[other[0]]!r}, and was {was[other[0]]!r}"
    else:
        found = f"there are {len(now):,} answers in it, and there were {len(was):,}"
    raise ConfigError(
        f"{config.answers_file}: {found} when the training of {run} began. Give --resume without "
        f"it, or with {run / ANSWERS}, to continue as it began, or train again with another --run."
    )


def reconcile_run(run: Path, state: TrainState) -> None:
    """Make metrics.jsonl and the best weights agree with a state, or raise `RunError`."""
    progress, files = state.progress, weight_files(run)
    best, complete = progress.best_epoch, len(progress.metrics)
    write_metrics(run, progress.metrics)
    with explain_run_write_errors(run):
        if best == 0:
            remove_results(run)
            files.remove()
        elif _epoch_of(state, files.current) == best:
            return
        elif _epoch_of(state, files.previous) == best:
            remove_results(run)
            files.go_back()  # the others are of a later epoch, which comes again, or damaged
        elif best == complete == state.counters.epoch + 1:
            # Killed between the state of that epoch and its weights, which the state holds.
            if _epoch_of(state, files.current) is None:
                files.current.unlink(missing_ok=True)  # or they would become the previous ones
            save_best(run, state)
        else:
            load_weights(run)  # its error may say more
            raise RunError(
                f"{run / CURRENT}: not the weights of epoch {best}, which are the best so far. "
                f"Restore them from a copy, or train again with --overwrite."
            )


def save_best(run: Path, state: TrainState) -> None:
    """Save the weights of a state at the end of the best epoch as those of the run.

    An evaluation may have been made while the training was stopped. It goes with its weights.
    """
    remove_results(run)
    best, began = state.progress, state.fingerprint
    tensors = select_tensors("average" if began.config["ema"] else "model", state.tensors)
    save_weights(run, Weights(tensors, best.best_epoch, best.best_accuracy, began.files))


def _epoch_of(state: TrainState, path: Path) -> int | None:
    """Return the epoch of weights; None if they are damaged or those of another training."""
    try:
        weights = read_weights(path)
    except (OSError, ValueError):
        return None
    return weights.epoch if weights.files == state.fingerprint.files else None
