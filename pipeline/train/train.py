"""Stage two: trains the projections, the cross-attention and the head from cached features alone.

`pipeline/train/loop.py` says when each file is written.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Unpack, cast

import torch

from frozen_vqa.cache.disk.lock import WriterLock
from frozen_vqa.pipeline.batches.residency import Residency, ResidentFeatures
from frozen_vqa.pipeline.config import TrainConfig, TrainSettings, load_run_config, make_config
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.own_fusion import check_fusion
from frozen_vqa.pipeline.model.size import bound_parameters, count_parameters
from frozen_vqa.pipeline.plugins import is_own, trust
from frozen_vqa.pipeline.runs.description import load_resumed_config
from frozen_vqa.pipeline.runs.environment import note_environment
from frozen_vqa.pipeline.runs.folder import hold_run, require_place, training_files
from frozen_vqa.pipeline.runs.run import read_digests, read_outcome, start_run
from frozen_vqa.pipeline.runs.state import TrainState, has_state, recover_state, remove_state
from frozen_vqa.pipeline.system.console import console, size
from frozen_vqa.pipeline.system.device import (
    choose_device,
    device_name,
    free_memory,
    keep_freed_memory,
    repeatable,
    use_cores,
)
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks
from frozen_vqa.pipeline.system.signals import Stop
from frozen_vqa.pipeline.train.data import TrainData, load_train_data
from frozen_vqa.pipeline.train.loop import TrainingLoop, TrainResult
from frozen_vqa.pipeline.train.parallel import with_shares
from frozen_vqa.pipeline.train.resume import (
    fingerprint_training,
    require_same_answers,
    require_same_fingerprint,
    require_same_settings,
)
from frozen_vqa.pipeline.train.tensorboard import Curves, summary_writer
from frozen_vqa.pipeline.train.trainer import Trainer
from frozen_vqa.pipeline.watch.figures import Values
from frozen_vqa.pipeline.watch.prometheus import Part
from frozen_vqa.pipeline.watch.training import training_figures


def train(
    cache: Path | str,
    run: Path | str,
    *,
    config: TrainConfig | None = None,
    device: torch.device | str = "auto",
    residency: Residency = "auto",
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
    data: TrainData | None = None,
    **settings: Unpack[TrainSettings],
) -> TrainResult:
    """Train a head and leave a run folder with its best weights.

    Ctrl-C and SIGTERM end it after the current step, once the state is saved; the signal then has
    its usual effect.

        train("features", "runs/concat", fusion="concat", epochs=3)

    Args:
        cache: A cache that holds both splits.
        run: The folder to make, or that of the training to resume.
        config: All settings; the defaults without it.
        device: A device or its name; "auto" takes a GPU if there is one.
        residency: Where to keep the features during training.
        overwrite: Whether an existing run may be replaced.
        resume: Whether to continue a training; a finished one only returns its result.
        tensorboard: Whether to write its curves for TensorBoard; see `tensorboard.py`.
        ranks: The processes that train it together (`parallel.py`); all have to call this with the
            same arguments, and to see the same cache. The first one alone uses the run folder.
        data: What `load_train_data` returned for this cache and settings, if it was called.
        **settings: Settings by name, which win over those of `config` and, with `resume`, over
            those of the run. A `fusion` of your own is a class, or "module:Name".

    Raises:
        CacheError: if the cache or a split is missing, damaged, or changed since.
        ConfigError: if settings and data do not fit or changed since, or TensorBoard is missing.
        PluginError: if a fusion of your own fails its test, or only `config` names it.
        RunError: if the folder is taken, not ours, in use by another process or has no state, or
            loss or weights are not finite.
    """
    started = time.monotonic()
    run, device = Path(run), device if isinstance(device, torch.device) else choose_device(device)
    config = _choose_settings(run, config, settings, resume=resume)
    if tensorboard:
        summary_writer()  # before hours of work, not after
    with ExitStack() as held:
        lock = hold_begun(run, held, ranks) if resume else None
        if resume and (result := find_result(run, config, ranks)):
            return result
        if not resume and ranks.lead:
            require_place(run, overwrite=overwrite)
        state = None
        if resume:
            state = recover_own_state(run, config, ranks)
            config = replace(config, shares=state.fingerprint.config.get("shares", 0))
        use_cores()
        held.enter_context(repeatable(device))
        data = data or load_train_data(cache, config, ranks)
        config = config if resume else with_shares(config, data.cache, ranks)
        require_possible({run.name: config}, data, device)
        if state is not None:
            require_same_data(run, state, data, config, device, ranks)
        features = ResidentFeatures(
            data.cache,
            residency=residency,
            device=device,
            pictures=config.sees_pictures,
            steps=data.bytes_of_steps([config], device) if device.type == "cuda" else 0,
        )
        loop = begin(
            run,
            data,
            features,
            config,
            state,
            held=held,
            lock=lock,
            started=started,
            overwrite=overwrite,
            tensorboard=tensorboard,
            ranks=ranks,
        )
        console.print(data.describe(), features.describe(), sep="\n")
        for line in data.advise(config):
            console.show(line)
        with Stop() as stop:
            loop.run_to_end(stop)
            return loop.finish(data)


def _choose_settings(
    run: Path, config: TrainConfig | None, settings: TrainSettings, *, resume: bool
) -> TrainConfig:
    """Return the settings of a training, with those that are given by name."""
    given: dict[str, Any] = dict(settings)
    if not isinstance(fusion := given.get("fusion", ""), str) or is_own(fusion):
        given["fusion"] = trust(fusion)
    if config is None and resume:
        return load_resumed_config(run, None, given)
    return make_config((asdict(config) if config else {}) | given)


def hold_begun(run: Path, held: ExitStack, ranks: Ranks = ALONE) -> WriterLock | None:
    """Hold the lock of a training that has begun, on the first rank; None if none has."""
    begun = ranks.lead and (has_state(run) or (run / "run.json").exists())
    return hold_run(run, held, names=training_files(run)) if begun else None


def require_possible(
    heads: Mapping[str, TrainConfig], data: TrainData, device: torch.device
) -> None:
    """Raise unless these heads can be built and trained, before any takes memory.

    Raises:
        ConfigError: if they cannot be built or exceed the memory.
        PluginError: if a fusion of the user's own was not named by the user, or fails its test.
    """
    require_memory(heads, data, device)
    shapes = [data.shape_head(one) for one in heads.values()]
    for config in {one.fusion: one for one in shapes if is_own(one.fusion)}.values():
        check_fusion(config.fusion, config)


def require_memory(heads: Mapping[str, TrainConfig], data: TrainData, device: torch.device) -> None:
    """Raise `ConfigError` if heads cannot be built or exceed the memory, before any is allocated.

    Only what steps always keep is counted: weights, gradients, both moments, and averages.
    """
    shapes = {}
    for name, config in heads.items():
        try:
            shapes[name] = data.shape_head(config)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}" if len(heads) > 1 else str(error)) from error
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()

    def need(numbers: Mapping[str, int]) -> int:
        return sum(4 * numbers[name] * (4 + bool(heads[name].ema)) for name in heads)

    # The exact numbers take a second, because torch imports more for them.
    if free is None or need({name: bound_parameters(one) for name, one in shapes.items()}) <= free:
        return
    numbers = {name: count_parameters(one) for name, one in shapes.items()}
    if need(numbers) > free:
        what = f"{len(heads)} heads" if len(heads) > 1 else "the head"
        raise ConfigError(
            f"{what} with {max(numbers.values()):,} parameters would take {size(need(numbers))} "
            f"for weights, gradients and moments, and {size(free)} are free on "
            f"{device_name(device)}; make --width or --layers smaller"
        )


def find_result(run: Path, config: TrainConfig, ranks: Ranks = ALONE) -> TrainResult | None:
    """Return the result of a finished training; None if there is something to continue.

    Raises `ConfigError` if its settings are not the given ones.
    """
    found = ranks.tell(lambda: read_outcome(run))
    if found is None:
        return None
    if ranks.lead:
        require_same_settings(run, asdict(load_run_config(run)), config)
        remove_state(run)
    console.print(f"{run}: this training is finished; nothing is left to train")
    names, known = {field.name for field in fields(TrainResult)}, cast(dict[str, Any], found)
    return TrainResult(**{k: v for k, v in known.items() if k in names} | {"run": str(run)})


def recover_own_state(run: Path, config: TrainConfig, ranks: Ranks = ALONE) -> TrainState:
    """Return the state to continue from, if its training began with these settings."""
    state = ranks.tell(lambda: recover_state(run))
    require_same_settings(run, state.fingerprint.config, config)
    return state


def require_same_data(
    run: Path,
    state: TrainState,
    data: TrainData,
    config: TrainConfig,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> None:
    """Raise unless cache, device and the run's files are as they were at the beginning."""
    files = ranks.tell(lambda: read_digests(run))
    now = fingerprint_training(config, data.cache, data.splits, files, device, ranks)
    require_same_fingerprint(run, state.fingerprint, now, cache=data.cache.name)
    if ranks.lead:
        require_same_answers(run, data.vocabulary, config)


def begin(
    run: Path,
    data: TrainData,
    features: ResidentFeatures,
    config: TrainConfig,
    state: TrainState | None,
    *,
    held: ExitStack,
    lock: WriterLock | None,
    started: float,
    overwrite: bool,
    tensorboard: bool,
    ranks: Ranks = ALONE,
) -> TrainingLoop:
    """Return a training that continues from a state, or begins and makes its run folder.

    `lock` is that of the run; None takes it, until `held` is closed.
    """
    trainer = Trainer(features, data, config=config, ranks=ranks)
    keep_freed_memory()  # of steps alone: memory for reading the cache is given back
    if lock is None and ranks.lead:
        lock = hold_run(run, held)
    files: Mapping[str, str] = state.fingerprint.files if state else {}
    if state is None and ranks.lead:
        files = start_run(
            run,
            config=config,
            model=trainer.model.config,
            vocabulary=data.vocabulary,
            cache=data.cache,
            overwrite=overwrite,
        )
    now = fingerprint_training(config, data.cache, data.splits, files, features.device, ranks)
    if ranks.lead:
        note_environment(run, features.device, now.cache)
    loop = TrainingLoop(run, trainer, now, started, lock)
    if state is None:
        loop.save()
    else:
        loop.restore(state)

    def figures() -> Values:
        steps, epochs = trainer.steps, config.epochs
        return training_figures(loop.progress, trainer.counters, steps=steps, epochs=epochs)

    loop.watched = Part(figures, run)
    if tensorboard and ranks.lead:
        loop.curves = Curves(run, trainer)
    return loop
