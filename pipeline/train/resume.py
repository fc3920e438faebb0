"""What has to be as it was for a training to go on; and a run brought to what its state says.

The cache is known by what a training reads of it: the encoders' settings, the tables of its two
splits, and the shards up to the last row that these use. A cache that was moved, or extended with
other splits, is the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.cache import CacheMismatchError, FeatureCache, SplitTable
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.manifest import ShardRecord
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary, load_vocabulary
from frozen_vqa.pipeline.config import ANSWERS, TrainConfig, load_config, preset_settings
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.runs.run import write_metrics
from frozen_vqa.pipeline.runs.state import Began, TrainState, no_state
from frozen_vqa.pipeline.runs.weights import (
    CURRENT,
    Weights,
    load_weights,
    read_weights,
    remove_weights,
    save_weights,
    weight_files,
    writing,
)
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import training_dtype
from frozen_vqa.pipeline.system.ranks import Ranks

SCHEDULE = ("epochs", "batch_size", "accumulate", "lr", "warmup", "group_by_image")
"""Settings on which the learning rate of a step depends."""


def began_with(
    config: TrainConfig,
    cache: FeatureCache,
    splits: Mapping[str, SplitTable],
    files: Mapping[str, str],
    device: torch.device,
    ranks: Ranks,
) -> Began:
    """Return what a training begins with; `files` are the digests of the run's own."""
    machine = {
        "device": device.type,
        "ranks": ranks.world,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": str(training_dtype(config.precision, device)).removeprefix("torch."),
    }
    return Began(asdict(config.kept()), fingerprint(cache, splits), files, machine)


def fingerprint(cache: FeatureCache, splits: Mapping[str, SplitTable]) -> dict[str, Any]:
    """Return what pins every number that a training on these splits reads, by name."""
    manifest = cache.manifest
    tables = splits.values()
    images = max(int(table.image_rows.max()) for table in tables)
    questions = max(int(table.question_rows.max()) for table in tables)
    found: dict[str, Any] = dict(cache.spec.settings())
    found |= {f"split {name}": manifest.splits[name].xxh3 for name in splits}
    found["shards of pictures"] = _shards_digest(manifest.images, images)
    found["shards of questions"] = _shards_digest(manifest.questions, questions)
    return found


def _shards_digest(shards: Sequence[ShardRecord], last_row: int) -> str:
    used, rows = [], 0
    for shard in shards:
        if rows > last_row:
            break
        rows += shard.rows
        used.append(shard.xxh3)
    return digest(json.dumps(used).encode())


def asked_config(run: Path, config: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that --resume asks for: the run's own where none are given.

    Raises:
        ConfigError: if a file cannot be read or a setting is not known.
        RunError: if there is no run.
    """
    own = run / "config.toml"
    if not own.exists():
        raise no_state(run)
    if config is None:  # the run's own file has every setting, and would win over a preset
        overrides = preset_settings(overrides.get("preset")) | {
            name: value for name, value in overrides.items() if value is not None
        }
    return load_config(config or own, overrides)


def require_same_settings(run: Path, was: Mapping[str, Any], asked: TrainConfig) -> None:
    """Raise `ConfigError`, both values named, unless a training goes on as it began."""
    changed = [name for name, value in asdict(asked.kept()).items() if was.get(name) != value]
    if changed:
        found = "; ".join(
            f"{name} was {was.get(name)!r} when it began, and {getattr(asked, name)!r} is asked for"
            + (", another schedule" if name in SCHEDULE else "")
            for name in changed[:5]
        )
        raise ConfigError(
            f"{run}: {found}. A training goes on as it began: give --resume without other "
            f"settings, or train anew with another --run."
        )


def require_same(run: Path, was: Began, now: Began, *, cache: Path) -> None:
    """Raise unless cache, files and device are those with which the training began.

    Raises:
        CacheMismatchError: with both values named.
        RunError: if a file of the run, or the device, is another.
    """
    for name in {**was.cache, **now.cache}:
        if was.cache.get(name) != now.cache.get(name):
            raise CacheMismatchError(
                f"{cache}: {name} is {now.cache.get(name)!r}, and was {was.cache.get(name)!r} when "
                f"the training of {run} began. Give the cache that it began with, or train anew "
                f"with another --run."
            )
    for name in {**was.files, **now.files}:
        if was.files.get(name) != now.files.get(name):
            raise RunError(
                f"{run / name}: not the file that the training began with; it was changed or "
                f"damaged. Restore it from a copy, or train anew with another --run."
            )
    if was.machine["device"] != now.machine["device"]:
        raise RunError(
            f"{run}: its training began on {was.machine['device']}, and {now.machine['device']} is "
            f"asked for; they round otherwise. Give --device {was.machine['device']}."
        )
    if was.machine["ranks"] != now.machine["ranks"]:
        raise RunError(
            f"{run}: its training began on {was.machine['ranks']} ranks of torchrun, and would go "
            f"on on {now.machine['ranks']}; sums are rounded otherwise then, and dropout draws "
            f"otherwise. Give as many --nproc-per-node, or train anew with another --run."
        )
    for name, value in now.machine.items():
        if was.machine.get(name) != value:
            console.print(
                f"{run}: began with {was.machine.get(name)} as {name}, goes on with {value}; "
                f"numbers may be rounded otherwise than in an undisturbed training",
                soft_wrap=True,
            )


def require_same_answers(run: Path, asked: Vocabulary, config: TrainConfig) -> None:
    """Raise `ConfigError`, naming the first that is another, unless a file's answers are the run's.

    They need not come from the same file, for the run keeps them itself.
    """
    if not config.answers_file:
        return
    was, now = load_vocabulary(run / ANSWERS).answers, asked.answers
    if was == now:
        return
    other = [i for i, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1]]
    if other:
        i = other[0]
        found = f"answer {i + 1} is {now[i]!r}, and was {was[i]!r}"
    else:
        found = f"there are {len(now):,} answers in it, and there were {len(was):,}"
    raise ConfigError(
        f"{config.answers_file}: {found} when the training of {run} began. Give --resume without "
        f"it, or with {run / ANSWERS}, to go on as it began, or train anew with another --run."
    )


def agree(run: Path, state: TrainState) -> None:
    """Bring metrics.jsonl and the best weights to what a state says.

    Raises:
        RunError: if the best weights are lost, or the folder cannot be written.
    """
    progress, files = state.progress, weight_files(run)
    write_metrics(run, progress.metrics)
    if progress.best_epoch == 0:
        with writing(run):
            remove_weights(run)
    elif _epoch_of(state, files.current) == progress.best_epoch:
        return
    elif _epoch_of(state, files.previous) == progress.best_epoch:
        with writing(run):
            files.go_back()  # the others are of a later epoch, which comes again, or damaged
    elif progress.best_epoch == len(progress.metrics) == progress.epoch + 1:
        # Killed after the state of that epoch and before its weights, which are in it.
        if _epoch_of(state, files.current) is None:
            with writing(run):
                files.current.unlink(missing_ok=True)  # not to be kept as the previous ones
        save_best(run, state)
    else:
        load_weights(run)  # may say more
        raise RunError(
            f"{run / CURRENT}: not the weights of epoch {progress.best_epoch}, which are the best "
            f"so far. Restore them from a copy, or train anew with --overwrite."
        )


def save_best(run: Path, state: TrainState) -> None:
    """Save the weights of a state at the end of the best epoch as those of the run."""
    kept = "average." if state.began.config["ema"] else "model."
    tensors = {
        name.removeprefix(kept): tensor
        for name, tensor in state.tensors.items()
        if name.startswith(kept)
    }
    best = state.progress
    save_weights(run, Weights(tensors, best.best_epoch, best.best_accuracy, state.began.files))


def _epoch_of(state: TrainState, path: Path) -> int | None:
    """Return the epoch of weights of this training; None if they are damaged or of another."""
    try:
        weights = read_weights(path)
    except (OSError, ValueError):
        return None
    return weights.epoch if weights.files == state.began.files else None
