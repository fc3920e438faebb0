"""Stage two: trains the projections, the cross-attention and the head from the cache.

Encoders take no part: the features they gave are read, and nothing here could change them. What is
written when, `pipeline/train/loop.py` tells.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.pipeline.batches.residency import Residency, ResidentFeatures
from frozen_vqa.pipeline.config import TrainConfig, load_run_config
from frozen_vqa.pipeline.runs.environment import note_environment
from frozen_vqa.pipeline.runs.run import digests, outcome, start_run
from frozen_vqa.pipeline.runs.state import TrainState, recover_state, remove_state
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import keep_freed_memory, use_cores
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks
from frozen_vqa.pipeline.system.signals import Stop
from frozen_vqa.pipeline.train.data import TrainData, load_train_data
from frozen_vqa.pipeline.train.loop import Training, TrainResult
from frozen_vqa.pipeline.train.resume import (
    began_with,
    require_same,
    require_same_answers,
    require_same_settings,
)
from frozen_vqa.pipeline.train.tensorboard import Events, summary_writer
from frozen_vqa.pipeline.train.trainer import build_trainer


def train(
    cache_path: Path,
    run: Path,
    *,
    config: TrainConfig,
    device: torch.device,
    residency: Residency = "auto",
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Train a head and leave a run folder with its best weights.

    Ctrl-C and SIGTERM end it after the current step and once the state is saved; the signal then
    goes to whoever would have had it.

    Args:
        cache_path: A cache that holds both splits.
        run: Folder to make, or of the training to go on with.
        config: Every setting.
        device: Where to train.
        residency: Where the features are meanwhile.
        overwrite: Whether a run that is there may be replaced.
        resume: Whether to go on with a training; from a finished one its result is returned.
        tensorboard: Whether to write its curves for TensorBoard; see `tensorboard.py`.
        ranks: The processes that train it together (`parallel.py`); all have to call this
            alike, and to see the same cache and run folder. The first one alone writes.

    Raises:
        CacheError: if the cache or a split is missing, damaged, or changed since.
        ConfigError: if settings and data do not fit together, or changed since; or TensorBoard is
            asked for and not installed.
        RunError: if the folder is taken or has no state, or loss or weights are not finite.
    """
    started = time.monotonic()
    if tensorboard:
        summary_writer()  # or it would be missed when all is ready
    if resume and (result := finished(run, config, ranks)):
        return result
    state = last_state(run, config, ranks) if resume else None
    use_cores()
    data = load_train_data(cache_path, config)
    if state is not None:
        require_same_data(run, state, data, config, device, ranks)
    features = ResidentFeatures(data.cache, residency=residency, device=device)
    how: dict[str, Any] = {"overwrite": overwrite, "tensorboard": tensorboard, "ranks": ranks}
    training = begin(run, data, features, config, state, started=started, **how)
    console.print(f"{data.describe()}\n{features.describe()}", soft_wrap=True)
    with Stop() as stop:
        training.run_to_end(stop)
        return training.finish(data)


def last_state(run: Path, config: TrainConfig, ranks: Ranks = ALONE) -> TrainState:
    """Return the state to go on from, if these are the settings that its training began with."""
    mended = recover_state(run) if ranks.lead else None
    ranks.wait()  # until the first rank has mended what is damaged
    state = mended or recover_state(run)
    require_same_settings(run, state.began.config, config)
    return state


def require_same_data(
    run: Path,
    state: TrainState,
    data: TrainData,
    config: TrainConfig,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> None:
    """Raise unless cache, device and the run's files are as they were; see `require_same`."""
    now = began_with(config, data.cache, data.splits, digests(run), device, ranks)
    require_same(run, state.began, now, cache=data.cache.directory)
    require_same_answers(run, data.vocabulary, config)


def begin(
    run: Path,
    data: TrainData,
    features: ResidentFeatures,
    config: TrainConfig,
    state: TrainState | None,
    *,
    started: float,
    overwrite: bool,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> Training:
    """Return a training that goes on from a state, or begins and makes its run folder."""
    trainer = build_trainer(features, data, config=config, ranks=ranks)
    keep_freed_memory()  # of steps alone: what reading the cache took is given back
    files: Mapping[str, str] = {}
    if state is not None:
        files = digests(run)
    elif ranks.lead:
        files = start_run(
            run,
            config=config,
            model=trainer.model.config,
            vocabulary=data.vocabulary,
            cache=data.cache,
            overwrite=overwrite,
        )
    began = began_with(config, data.cache, data.splits, files, features.device, ranks)
    if ranks.lead:
        note_environment(run, features.device, began.cache)
    training = Training(run, trainer, began, started)
    if state is None:
        training.save()
    else:
        training.go_on(state)
    if tensorboard and ranks.lead:
        training.events = Events(run, trainer)
    return training


def finished(run: Path, config: TrainConfig, ranks: Ranks = ALONE) -> TrainResult | None:
    """Return what came out of a training that is over; None if there is something to go on with."""
    found = outcome(run)
    if found is None:
        return None
    require_same_settings(run, asdict(load_run_config(run)), config)
    if ranks.lead:
        remove_state(run)
    console.print(
        f"{run}: this training is finished; there is nothing to go on with", soft_wrap=True
    )
    names = {field.name for field in fields(TrainResult)}
    return TrainResult(**{k: v for k, v in found.items() if k in names} | {"run": str(run)})
