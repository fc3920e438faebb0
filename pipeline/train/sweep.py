"""Many heads in one pass: each batch is read once, and every head makes its step with it.

A head of a sweep ends as a run of its own, in RUN/NAME, with the weights that it would have had if
it had been trained alone: it takes the same steps (`trainer.py`) on the same batches, and
draws from generators that are its own. States are saved as a single training saves them, each
head's by itself, so that after a kill some may be ahead of others: what was ahead then waits until
the others have come to its place.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.residency import Residency, ResidentFeatures
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError, NotFiniteError, RunError
from frozen_vqa.pipeline.predict import predict_several
from frozen_vqa.pipeline.runs.run import require_free
from frozen_vqa.pipeline.runs.state import TrainState, has_state
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import use_cores
from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.data import TrainData, load_train_data
from frozen_vqa.pipeline.train.loop import Training, TrainResult
from frozen_vqa.pipeline.train.sweep_table import SweepTable
from frozen_vqa.pipeline.train.tensorboard import summary_writer
from frozen_vqa.pipeline.train.train import begin, finished, last_state, require_same_data
from frozen_vqa.pipeline.train.trainer import Trainer, untrained_head


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        heads: What each training did, by name, the most accurate one first.
        failed: Why others did not come to an end, by name.
        seconds: Wall time of this process.
    """

    heads: Mapping[str, TrainResult]
    failed: Mapping[str, str]
    seconds: float


class Head:
    """A training of a sweep, and the states of the generators that it draws from.

    Args:
        name: Of its folder.
        device: Where it trains.
    """

    training: Training
    """Set by whoever makes it, in the head's own turn."""
    loss: float
    """Mean of the last epoch that was trained."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self.error: str | None = None
        self._gpus = [device] if device.type == "cuda" else []
        self._states = self._drawn()

    @property
    def trainer(self) -> Trainer:
        """The trainer of the training."""
        return self.training.trainer

    @property
    def epoch(self) -> int:
        """The epoch that comes next or is running, from 0."""
        return len(self.training.metrics)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let what is drawn in the block, and restored of it, be the head's own."""
        with torch.random.fork_rng(devices=self._gpus):
            torch.set_rng_state(self._states[0])
            for gpu, state in zip(self._gpus, self._states[1:], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            yield
            self._states = self._drawn()

    def _drawn(self) -> list[torch.Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(gpu) for gpu in self._gpus)]

    def learn(self, batch: FeatureBatch, waited: float) -> None:
        """Take a batch for which all heads have waited so many seconds together."""
        clock = time.perf_counter()
        with self.turn():
            if self.trainer.learn(batch):
                self.training.note_step()
            self.trainer.epoch_seconds += waited + time.perf_counter() - clock


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
) -> SweepResult:
    """Train heads on the same batches and leave a run folder for each.

    Ctrl-C and SIGTERM end it after the current step and once all states are saved. A head whose
    loss is not finite any more is left behind; the others go on.

    Args:
        cache_path: A cache that holds both splits.
        run: Folder of the run folders.
        heads: Every setting of each, by name; see `pipeline/train/sweep_config.py`.
        device: Where to train.
        residency: Where the features are meanwhile.
        overwrite: Whether runs that are there may be replaced.
        resume: Whether to go on with what is there.
        tensorboard: Whether to write curves of each for TensorBoard.

    Raises:
        CacheError: if the cache or a split is missing, damaged, or changed since.
        ConfigError: if settings and data do not fit together, or changed since.
        RunError: if a folder is taken, there is nothing to go on with, or all heads have failed.
    """
    started = time.monotonic()
    if tensorboard:
        summary_writer()  # or it would be missed when all is ready
    paths = {name: run / name for name in heads}
    results: dict[str, TrainResult] = {}
    states: dict[str, TrainState] = {}
    for name, path in paths.items():
        if not resume:
            if not overwrite:
                require_free(path)
        elif result := finished(path, heads[name]):
            results[name] = result
        elif has_state(path):
            states[name] = last_state(path, heads[name])
    if resume and not results and not states:
        raise RunError(f"{run}: none of these heads has begun here; train them without --resume")
    left = {name: config for name, config in heads.items() if name not in results}
    failed: dict[str, str] = {}
    if left:
        use_cores()
        data = load_train_data(cache_path, next(iter(left.values())))
        for name, config in left.items():
            _require_shape(name, config, data)
        for name, state in states.items():
            require_same_data(paths[name], state, data, left[name], device)
        features = ResidentFeatures(data.cache, residency=residency, device=device)
        console.print(f"{data.describe()}\n{features.describe()}", soft_wrap=True)
        made = [Head(name, device) for name in left]
        for head in made:
            with head.turn():
                head.training = begin(
                    paths[head.name],
                    data,
                    features,
                    left[head.name],
                    states.get(head.name),
                    started=started,
                    overwrite=overwrite or resume,  # what has no state has trained nothing
                    tensorboard=tensorboard,
                )
            _share_readers(head.trainer, made[0].trainer)
        with Stop() as stop:
            results |= _Pass(made, data, stop).run_to_end()
        failed = {head.name: head.error for head in made if head.error is not None}
    if not results:
        raise RunError(f"{run}: every head has failed. {next(iter(failed.values()))}")
    ranked = sorted(results.items(), key=lambda item: -item[1].best_accuracy)
    return SweepResult(dict(ranked), failed, round(time.monotonic() - started, 3))


def _require_shape(name: str, config: TrainConfig, data: TrainData) -> None:
    """Raise `ConfigError` for a head that cannot be built, before any folder is made."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            untrained_head(data.cache.spec, len(data.vocabulary), config)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _share_readers(trainer: Trainer, other: Trainer) -> None:
    """Let one read what another does: their own readers hold the same targets once more."""
    trainer.train_reader, trainer.val_reader = other.train_reader, other.val_reader
    trainer.val_scores = other.val_scores


class _Pass:
    """Heads that go over the same batches together.

    Args:
        heads: Each with a training that has begun.
        data: Of all.
        stop: Ends it.
    """

    def __init__(self, heads: Sequence[Head], data: TrainData, stop: Stop) -> None:
        self.heads, self.data, self.stop = heads, data, stop
        self.first = heads[0].trainer
        self.table = SweepTable([head.name for head in heads], self.first.config)
        self.results: dict[str, TrainResult] = {}

    def run_to_end(self) -> dict[str, TrainResult]:
        """Train and score what is left; save all states when a signal ends that.

        Raises:
            Stopped: then.
        """
        for head in self.heads:
            for line in head.training.metrics:
                self.table.add(head.name, line)
        try:
            with self.table.shown():
                while left := self._left():
                    number = min(head.epoch for head in left)
                    here = [head for head in left if head.epoch == number]
                    self._train(number, here)
                    self._score([head for head in here if head.error is None])
        except Stopped:
            for head in self._left():
                with head.turn():
                    head.training.save()
            raise
        finally:
            for head in self.heads:
                if head.training.events:
                    head.training.events.close()
        return self.results

    def _left(self) -> list[Head]:
        """Return the heads that go on; those that are over have a result."""
        for head in self.heads:
            if head.training.over and head.name not in self.results:
                self.results[head.name] = head.training.finish(self.data)
        return [h for h in self.heads if h.error is None and h.name not in self.results]

    def _train(self, number: int, heads: Sequence[Head]) -> None:
        """Train for what is left of one epoch."""
        for head in heads:
            plan = head.trainer.begin(number)
        first = min(head.trainer.batch for head in heads)
        left = plan[first:]
        reader, before = self.first.train_reader, self.first.train_reader.waited
        what = f"epoch {number + 1}/{self.first.config.epochs}"
        with self.table.progress(what, left) as advance:
            for done, batch in enumerate(reader.batches(left), start=first):
                waited, before = reader.waited - before, reader.waited
                for head in heads:
                    if head.trainer.seen == done:  # others are ahead
                        head.learn(batch, waited)
                advance(len(batch.questions))
                if all(head.trainer.seen == head.trainer.batch for head in heads):
                    self._between_steps(heads)
        for head in heads:
            with self._left_behind(head):
                head.loss = head.trainer.mean_loss()

    def _between_steps(self, heads: Sequence[Head]) -> None:
        self.stop.check()
        for head in heads:
            with head.turn():
                head.training.save_in_time()

    def _score(self, heads: Sequence[Head]) -> None:
        """Score all heads on the validation split, which is read once."""
        with self.stop.anywhere():
            predicted = predict_several(
                [head.trainer.scored for head in heads],
                self.first.val_reader,
                self.first.val_split,
                batch_size=self.first.config.batch_size,
            )
        for head, classes in zip(heads, predicted, strict=True):
            with self._left_behind(head), head.turn():
                head.training.end_epoch(head.loss, head.trainer.accuracy_of(classes))
                self.table.add(head.name, head.training.metrics[-1])
        self.table.show()

    @contextmanager
    def _left_behind(self, head: Head) -> Iterator[None]:
        """Let a head that has failed not stop the others."""
        try:
            yield
        except NotFiniteError as error:
            head.error = str(error)
            self.table.fail(head.name)
            console.print(f"{head.name}: {error}", soft_wrap=True)
