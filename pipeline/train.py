"""Stage two: trains the projections, the cross-attention and the head from the cache.

Encoders take no part: the features they gave are read, and nothing here could change them.

At the end of an epoch a state is written first, then the best weights, then metrics.jsonl, each
whole or not at all. The state holds the weights of that epoch and every line of metrics.jsonl, so
it alone decides how far a training is: what a kill left unwritten after it is written from it, and
what is ahead of it goes back. Weights that were saved after a state can be those of one epoch at
most, so that the two kept ones include the best of each of the two kept states. The outcome is
written last; then the states are removed.
"""

import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from cache import CacheError, FeatureCache, SplitTable
from pipeline.answers import build_vocabulary
from pipeline.config import TrainConfig, load_config
from pipeline.device import keep_freed_memory, use_cores
from pipeline.display import console, duration
from pipeline.errors import RunError
from pipeline.features import Features, Residency
from pipeline.metric import Rules, percent, pick_rules
from pipeline.resume import (
    agree,
    began_with,
    require_same,
    require_same_settings,
    save_best,
)
from pipeline.runs import digests, finish_run, outcome, start_run, write_metrics
from pipeline.state import Began, Progress, TrainState, recover_state, remove_state, save_state
from pipeline.stopping import Stop, Stopped
from pipeline.trainer import Trainer, build_trainer
from pipeline.weights import require_finite

CHECKPOINT_SECONDS = 120.0
"""Training that a kill may cost."""


@dataclass(frozen=True)
class TrainResult:
    """What a training did.

    Attributes:
        run: The run folder.
        fusion: The fusion kind.
        epochs: Passes over the training split.
        best_accuracy: Accuracy in percent on the validation split of the weights that were kept.
        best_epoch: After which epoch that was, from 1.
        trainable_parameters: Numbers that were trained.
        questions_per_second: In training, without validation.
        data_wait_fraction: Share of the training time in which the step waited for features.
        seconds: Wall time.
    """

    run: str
    fusion: str
    epochs: int
    best_accuracy: float
    best_epoch: int
    trainable_parameters: int
    questions_per_second: float
    data_wait_fraction: float
    seconds: float


def train(
    cache_path: Path,
    run: Path,
    *,
    config: TrainConfig,
    device: torch.device,
    residency: Residency = "auto",
    overwrite: bool = False,
    resume: bool = False,
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

    Raises:
        CacheError: if the cache or a split is missing, damaged, or changed since.
        ConfigError: if settings and data do not fit together, or changed since.
        RunError: if the folder is taken or has no state, or loss or weights are not finite.
    """
    started = time.monotonic()
    if resume and (result := _finished(run, config)):
        return result
    state = recover_state(run) if resume else None
    if state is not None:
        require_same_settings(run, state.began.config, config)
    use_cores()
    cache = FeatureCache(cache_path)
    splits = {name: cache.split(name) for name in (config.train_split, config.val_split)}
    for name, split in splits.items():
        _require_answers(cache, name, split)
    train_split, val_split = splits[config.train_split], splits[config.val_split]
    rules = pick_rules((len(a) for s in (train_split, val_split) for a in s.answers), None)
    vocabulary = build_vocabulary(
        train_split.answers, min_count=config.min_answer_count, top=config.top_answers or None
    )
    if state is not None:
        began = began_with(config, cache, splits, digests(run), device)
        require_same(run, state.began, began, cache=cache.directory)
    features = Features(cache, residency=residency, device=device)
    trainer = build_trainer(features, train_split, val_split, vocabulary, rules, config=config)
    keep_freed_memory()  # of steps alone: what reading the cache took is given back
    if state is None:
        files = start_run(
            run,
            config=config,
            model=trainer.model.config,
            vocabulary=vocabulary,
            cache=cache,
            overwrite=overwrite,
        )
        began = began_with(config, cache, splits, files, device)
    console.print(features.describe(), soft_wrap=True)
    training = _Training(run, trainer, began, started)
    if state is None:
        training.save()
    else:
        training.go_on(state)
    with Stop() as stop:
        training.run_to_end(stop)
        result = training.result(rules)
        finish_run(run, cache, {**vars(result), "metric": rules})
    return result


def _finished(run: Path, config: TrainConfig) -> TrainResult | None:
    found = outcome(run)
    if found is None:
        return None
    require_same_settings(run, vars(load_config(run / "config.toml", {})), config)
    remove_state(run)
    console.print(
        f"{run}: this training is finished; there is nothing to go on with", soft_wrap=True
    )
    names = {field.name for field in fields(TrainResult)}
    return TrainResult(**{k: v for k, v in found.items() if k in names} | {"run": str(run)})


class _Training:
    """A trainer and its run folder.

    Args:
        run: The folder, as `start_run` left it.
        trainer: Before its first step.
        began: Goes into every state.
        started: When this process began, by the monotonic clock.
    """

    def __init__(self, run: Path, trainer: Trainer, began: Began, started: float) -> None:
        self.run = run
        self.trainer = trainer
        self.began = began
        self.started = started
        self.saved = time.monotonic()
        self.metrics: list[Mapping[str, Any]] = []
        self.best_accuracy, self.best_epoch, self.training_seconds = -1.0, 0, 0.0

    def state(self) -> TrainState:
        """Return all that there is to save; the tensors change with the next step."""
        trainer = self.trainer
        progress = Progress(
            metrics=list(self.metrics),
            best_accuracy=self.best_accuracy,
            best_epoch=self.best_epoch,
            epoch=trainer.running,
            batch=trainer.batch,
            step=trainer.step,
            epoch_seconds=trainer.epoch_seconds,
            training_seconds=self.training_seconds,
            waited=trainer.train_reader.waited,
            seconds=time.monotonic() - self.started,
        )
        return TrainState(trainer.tensors(), progress, self.began)

    def save(self) -> None:
        """Save a state."""
        save_state(self.run, self.state())
        self.saved = time.monotonic()

    def go_on(self, state: TrainState) -> None:
        """Take the place of the training whose state this is."""
        found, trainer = state.progress, self.trainer
        try:
            trainer.restore(state.tensors)
        except (KeyError, RuntimeError) as error:
            reason = textwrap.shorten(str(error), 200, placeholder=" ...")
            raise RunError(
                f"{self.run}: its state is that of another head ({reason}). Go on with the "
                f"version that began it, or train anew with --overwrite."
            ) from error
        agree(self.run, state)
        self.metrics = list(found.metrics)
        self.best_accuracy, self.best_epoch = found.best_accuracy, found.best_epoch
        self.training_seconds = found.training_seconds
        trainer.running, trainer.batch, trainer.step = found.epoch, found.batch, found.step
        trainer.epoch_seconds, trainer.train_reader.waited = found.epoch_seconds, found.waited
        self.started -= found.seconds
        console.print(
            f"{self.run}: going on after {len(self.metrics)} of {trainer.config.epochs} epochs, "
            f"{found.step:,} of {trainer.steps:,} steps",
            soft_wrap=True,
        )

    def run_to_end(self, stop: Stop) -> None:
        """Train and score the epochs that are left; save a state when a signal ends that.

        Raises:
            Stopped: then.
        """

        def after_step() -> None:
            stop.check()
            if time.monotonic() - self.saved >= CHECKPOINT_SECONDS:
                self.save()

        try:
            for number in range(len(self.metrics), self.trainer.config.epochs):
                loss = self.trainer.epoch(number, after_step)
                with stop.anywhere():
                    accuracy = self.trainer.accuracy()
                self._end_epoch(loss, accuracy)
        except Stopped:
            self.save()
            raise

    def _end_epoch(self, loss: float, accuracy: float) -> None:
        number, seconds = len(self.metrics) + 1, self.trainer.epoch_seconds
        config = self.trainer.config
        console.print(
            f"epoch {number}/{config.epochs}: loss {loss:.4f}, accuracy {accuracy:.2f} % on "
            f"{config.val_split}, {duration(seconds)}"
        )
        line = {"epoch": number, "loss": loss, "accuracy": accuracy, "seconds": round(seconds, 3)}
        self.metrics.append(line)
        self.training_seconds += seconds
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = accuracy, number
            require_finite(self.run, self.trainer.scored.state_dict(), epoch=number)
        self.save()  # before what it decides; see above
        if self.best_epoch == number:
            save_best(self.run, self.state())
        write_metrics(self.run, self.metrics)

    def result(self, rules: Rules) -> TrainResult:
        """Return what came out."""
        config, trainer, seconds = self.trainer.config, self.trainer, self.training_seconds
        return TrainResult(
            run=str(self.run),
            fusion=config.fusion,
            epochs=config.epochs,
            best_accuracy=percent(self.best_accuracy / 100, rules),
            best_epoch=self.best_epoch,
            trainable_parameters=sum(p.numel() for p in trainer.model.parameters()),
            questions_per_second=round(config.epochs * len(trainer.train_split) / seconds, 1),
            data_wait_fraction=round(trainer.train_reader.waited / seconds, 4),
            seconds=round(time.monotonic() - self.started, 3),
        )


def _require_answers(cache: FeatureCache, name: str, split: SplitTable) -> None:
    unanswered = sum(1 for answers in split.answers if not answers)
    if unanswered:
        raise CacheError(
            f"{cache.directory}: {unanswered:,} of {len(split):,} questions of split {name!r} have "
            f"no answers, so it can be neither trained nor validated on; name another split"
        )
    if not len(split):
        raise CacheError(f"{cache.directory}: split {name!r} has no questions")
