"""Many heads in one pass: each batch is read once, and every head takes a step on it.

Each head of a sweep ends as a run of its own, in RUN/NAME, with exactly the weights that a single
training would give it: it takes the same steps (`trainer.py`) on the same batches, and draws from
its own random generators. Each head saves states as a single training does, independently of the
others. After a kill some heads may therefore be ahead; they wait until the others have caught up.
Heads that read other parts of the features have a pass of their own, one pass after the other.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.cache.disk.lock import WriterLock
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.residency import Residency, ResidentFeatures
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import NotFiniteError, RunError
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.runs.folder import (
    claim_sweep_folder,
    require_place,
    require_real_heads,
    require_sweep_folder,
)
from frozen_vqa.pipeline.runs.state import TrainState, has_state
from frozen_vqa.pipeline.runs.weights import require_finite_weights
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import repeatable, use_cores
from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.data import TrainData, load_train_data
from frozen_vqa.pipeline.train.loop import TrainingLoop, TrainResult
from frozen_vqa.pipeline.train.parallel import Generators
from frozen_vqa.pipeline.train.sweep_table import SweepTable
from frozen_vqa.pipeline.train.tensorboard import summary_writer
from frozen_vqa.pipeline.train.train import (
    begin,
    find_result,
    hold_begun,
    recover_own_state,
    require_possible,
    require_same_data,
)
from frozen_vqa.pipeline.train.trainer import Trainer


@dataclass(frozen=True)
class SweepResult:
    """The outcome of a sweep."""

    heads: Mapping[str, TrainResult]  # by name, the most accurate one first
    failed: Mapping[str, str]  # why other heads failed, by name
    seconds: float  # wall time of this process


class Head:
    """A training of a sweep; in its `turn` it draws from its own generators."""

    loop: TrainingLoop  # made later, because that draws the first weights in the head's turn
    loss: float  # mean of the last complete epoch

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self.error: str | None = None
        self.turn = Generators(device).turn

    @property
    def trainer(self) -> Trainer:
        return self.loop.trainer

    def learn(self, batch: FeatureBatch, waited: float) -> None:
        """Train on a batch for which all heads have waited this many seconds together."""
        clock, counters = time.perf_counter(), self.trainer.counters
        with self.turn():
            if self.trainer.learn(batch):
                self.loop.note_step()
        counters.waited += waited
        counters.epoch_seconds += waited + time.perf_counter() - clock


def sweep(
    cache_path: Path,
    run: Path,
    *,
    heads: Mapping[str, TrainConfig],
    device: torch.device,
    residency: Residency = "auto",
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
    data: TrainData | None = None,
) -> SweepResult:
    """Train heads on the same batches and leave a run folder for each.

    Ctrl-C and SIGTERM end it after the current step, once all states are saved. If the loss of one
    head is no longer finite, the others continue without it.

    Args:
        run: The folder of the run folders.
        heads: Every setting of each, by name; see `pipeline/train/sweep_config.py`.
        cache_path, residency, overwrite, resume, tensorboard, data: As in `train`.

    Raises:
        CacheError, ConfigError: As `train` does.
        RunError: if a folder is taken, there is nothing to resume, or all heads have failed.
    """
    started = time.monotonic()
    if tensorboard:
        summary_writer()  # before hours of work, not after
    require_real_heads(run, heads)
    with ExitStack() as held:
        locks = {name: hold_begun(path_in(run, name), held) for name in heads if resume}
        results, states = _find_begun(run, heads) if resume else ({}, {})
        for name in heads if not resume else ():
            require_place(path_in(run, name), overwrite=overwrite)
        require_sweep_folder(run)
        left = {name: config for name, config in heads.items() if name not in results}
        failed: dict[str, str] = {}
        if left:
            use_cores()
            held.enter_context(repeatable(device))
            data = data or load_train_data(cache_path, next(iter(left.values())))
            groups = list(_by_parts(data, left))
            for some, theirs in groups:
                require_possible(some, theirs, device)
                for name in some.keys() & states.keys():
                    require_same_data(path_in(run, name), states[name], theirs, some[name], device)
            console.print(data.describe())
            for line in data.advise(next(iter(left.values()))):
                console.show(line)
            claim_sweep_folder(run)
            how: dict[str, Any] = {"held": held, "started": started, "tensorboard": tensorboard}
            how["overwrite"] = overwrite or resume  # a run without a state has trained nothing
            for some, theirs in groups:
                one = _train_group(run, theirs, some, states, locks, device, residency, how)
                results, failed = results | one[0], failed | one[1]
    if not results:
        raise RunError(f"{run}: every head has failed. {next(iter(failed.values()))}")
    ranked = sorted(results.items(), key=lambda item: -item[1].best_accuracy)
    return SweepResult(dict(ranked), failed, round(time.monotonic() - started, 3))


def _by_parts(
    data: TrainData, heads: Mapping[str, TrainConfig]
) -> Iterator[tuple[dict[str, TrainConfig], TrainData]]:
    """Yield the heads that read the same parts of the features, with the data of these."""
    for parts in dict.fromkeys((one.vision, one.text_layer) for one in heads.values()):
        some = {k: one for k, one in heads.items() if (one.vision, one.text_layer) == parts}
        yield some, replace(data, cache=data.cache.pick(*parts))


def _train_group(
    run: Path,
    data: TrainData,
    heads: Mapping[str, TrainConfig],
    states: Mapping[str, TrainState],
    locks: Mapping[str, WriterLock | None],
    device: torch.device,
    residency: Residency,
    how: Mapping[str, Any],
) -> tuple[dict[str, TrainResult], dict[str, str]]:
    """Train heads that read the same features; return results, and why others failed."""
    sees = any(one.sees_pictures for one in heads.values())
    steps = data.bytes_of_steps([*heads.values()], device) if device.type == "cuda" else 0
    features = ResidentFeatures(
        data.cache, residency=residency, device=device, pictures=sees, steps=steps
    )
    console.print(features.describe())
    begun = [Head(name, device) for name in heads]
    for head in begun:
        place, config, state = path_in(run, head.name), heads[head.name], states.get(head.name)
        with head.turn():
            lock = locks.get(head.name)
            head.loop = begin(place, data, features, config, state, lock=lock, **how)
        _share_readers(head.trainer, begun[0].trainer)
    with Stop() as stop:
        results = _Pass(begun, data, stop).run_to_end()
    return results, {head.name: head.error for head in begun if head.error}


def _find_begun(
    run: Path, heads: Mapping[str, TrainConfig]
) -> tuple[dict[str, TrainResult], dict[str, TrainState]]:
    """Return the results of the finished heads and the states of the unfinished ones."""
    results: dict[str, TrainResult] = {}
    states: dict[str, TrainState] = {}
    for name, config in heads.items():
        if result := find_result(path_in(run, name), config):
            results[name] = result
        elif has_state(path_in(run, name)):
            states[name] = recover_own_state(path_in(run, name), config)
    if not results and not states:
        raise RunError(f"{run}: none of these heads has begun here; train them without --resume")
    return results, states


def _share_readers(trainer: Trainer, other: Trainer) -> None:
    """Give a trainer the readers of another; its own would hold the same targets once more."""
    trainer.train_reader, trainer.val_reader = other.train_reader, other.val_reader
    trainer.val_scores = other.val_scores


class _Pass:
    """Heads that train on the same batches; the training of each has begun."""

    def __init__(self, heads: Sequence[Head], data: TrainData, stop: Stop) -> None:
        self.heads, self.data, self.stop = heads, data, stop
        self.first = heads[0].trainer
        self.table = SweepTable([head.name for head in heads], self.first.config)
        self.results: dict[str, TrainResult] = {}

    def run_to_end(self) -> dict[str, TrainResult]:
        """Train and score the remaining epochs; at a signal, save all and raise `Stopped`."""
        for head in self.heads:
            for line in head.loop.progress.metrics:
                self.table.add(head.name, line)
        try:
            with self.table.show_live():
                while left := self._finish_and_list_left():
                    number = min(head.loop.epochs for head in left)
                    here = [head for head in left if head.loop.epochs == number]
                    self._train(number, here)
                    self._score([head for head in here if head.error is None])
        except Stopped:
            for head in self._finish_and_list_left():
                with self._isolate_failure(head), head.turn():
                    head.loop.save()
            raise
        finally:
            for head in self.heads:
                head.loop.close()
        return self.results

    def _finish_and_list_left(self) -> list[Head]:
        """Store the results of heads that are over, and return the others."""
        for head in self.heads:
            if head.error is None and head.loop.over and head.name not in self.results:
                with self._isolate_failure(head):
                    self.results[head.name] = head.loop.finish(self.data)
        return [h for h in self.heads if h.error is None and h.name not in self.results]

    def _train(self, number: int, heads: Sequence[Head]) -> None:
        """Train the rest of one epoch."""
        for head in heads:
            plan = head.trainer.begin(number)
        first = min(head.trainer.counters.batch for head in heads)
        left, reader = plan[first:], self.first.train_reader
        before = reader.waited
        with self.table.progress(f"epoch {number + 1}/{self.first.config.epochs}", left) as advance:
            for done, batch in enumerate(reader.batches(left), start=first):
                waited, before = reader.waited - before, reader.waited
                for head in heads:
                    if head.error is None and head.trainer.seen == done:  # others are ahead
                        with self._isolate_failure(head):
                            head.learn(batch, waited)
                advance(len(batch.questions))
                if all(head.trainer.seen == head.trainer.counters.batch for head in heads):
                    self.stop.check()  # all heads are between two steps
                    for head in heads:
                        if head.error is None and head.loop.save_is_due:
                            with self._isolate_failure(head), head.turn():
                                head.loop.save(behind=True)
        for head in heads:
            if head.error is None:
                with self._isolate_failure(head):
                    head.loss = head.trainer.mean_loss()
                    # Or the answers of this head would end the others'.
                    weights = head.trainer.scored.state_dict()
                    require_finite_weights(head.loop.run, weights, epoch=number + 1)

    def _score(self, heads: Sequence[Head]) -> None:
        """Score all heads on the validation split, which is read once."""
        with self.stop.anywhere():
            predicted = predict(
                [head.trainer.scored for head in heads],
                self.first.val_reader,
                self.first.val_split,
                batch_size=self.first.config.batch_size,
            )
        for head, classes in zip(heads, predicted, strict=True):
            with self._isolate_failure(head), head.turn():
                head.loop.end_epoch(head.loss, head.trainer.accuracy_of(classes))
                self.table.add(head.name, head.loop.progress.metrics[-1])
        self.table.print_lines()

    @contextmanager
    def _isolate_failure(self, head: Head) -> Iterator[None]:
        """Let the other heads continue if the block fails for this one."""
        try:
            yield
        except NotFiniteError as error:
            head.error = str(error)
            self.table.fail(head.name)
            console.show(f"{head.name}: {error}")
