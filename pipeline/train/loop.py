"""A training and its run folder: when each file is written, and how the training resumes.

At the end of an epoch the loop writes a state first, then the best weights, then metrics.jsonl,
each whole or not at all. The state holds the weights of that epoch and every line of metrics.jsonl,
so it alone tells how far a training is: a resume brings the other files to the state, forwards or
back. At most one epoch's weights are saved after a state, so the two weight files always include
the best weights of both states. The outcome is written last; then the states are removed.

While steps go on, a thread writes all of these (`pipeline/system/saver.py`), in that order. What
the command ends with is written before it ends: the first state, that of a signal, the outcome.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from frozen_vqa.cache.disk.lock import WriterLock
from frozen_vqa.pipeline.errors import RunError, reason_of
from frozen_vqa.pipeline.runs.card import write_card
from frozen_vqa.pipeline.runs.data import record_data
from frozen_vqa.pipeline.runs.description import Outcome
from frozen_vqa.pipeline.runs.run import finish_run
from frozen_vqa.pipeline.runs.state import (
    EpochLine,
    Progress,
    TrainingFingerprint,
    TrainState,
    save_state,
    write_metrics,
)
from frozen_vqa.pipeline.system.console import Advance, console, duration, progress
from frozen_vqa.pipeline.system.saver import Saver
from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.data import TrainData
from frozen_vqa.pipeline.train.resume import reconcile_run, save_best
from frozen_vqa.pipeline.train.tensorboard import Curves
from frozen_vqa.pipeline.train.trainer import Trainer
from frozen_vqa.pipeline.watch.prometheus import Part

CHECKPOINT_SECONDS = 120.0
"""How much training a kill may cost, if a save takes at most a hundredth of that."""


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a training; fields with a default are None in runs older than them."""

    run: str
    fusion: str
    epochs: int  # passes over the training split
    best_accuracy: float  # of the saved weights on the validation split, in percent
    best_epoch: int  # after which they were saved, from 1
    trainable_parameters: int
    questions_per_second: float  # in training, without validation
    data_wait_fraction: float  # share of the training time in which steps waited for features
    seconds: float  # wall time
    answers: int | None = None  # classes of the head
    train_ceiling: float | None = None  # percent that no head can exceed on the training split
    val_ceiling: float | None = None  # the same on the validation split
    not_written: tuple[str, ...] = ()  # why curves for TensorBoard are missing

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; `not_written` only where something was not."""
        return {k: v for k, v in vars(self).items() if k != "not_written" or v}


class TrainingLoop:
    """Trains a head and writes its run folder; only the first rank writes.

    The trainer has made no step yet. `started` is the monotonic time at which this process began;
    `lock` is that of the run, on the first rank.
    """

    def __init__(
        self,
        run: Path,
        trainer: Trainer,
        fingerprint: TrainingFingerprint,
        started: float,
        lock: WriterLock | None,
    ) -> None:
        self.run, self.trainer, self.ranks = run, trainer, trainer.ranks
        self.fingerprint, self.started, self.lock = fingerprint, started, lock
        self.progress = Progress(
            metrics=[], best_accuracy=-1.0, best_epoch=0, training_seconds=0.0, seconds=0.0
        )
        self.curves: Curves | None = None
        self.watched: Part | None = None
        self._saver = Saver()
        self._saved_at = time.monotonic()

    @property
    def epochs(self) -> int:
        """How many epochs are trained and scored."""
        return len(self.progress.metrics)

    @property
    def over(self) -> bool:
        """Whether all epochs are trained and scored, or patience has run out."""
        config = self.trainer.config
        without_a_better_one = self.epochs - self.progress.best_epoch
        return self.epochs == config.epochs or 0 < config.patience <= without_a_better_one

    def save(
        self, then: Callable[[TrainState], None] = lambda state: None, *, behind: bool = False
    ) -> None:
        """Save a state and call `then` with it, or go on while a thread does. All ranks call it.

        Raises as `Trainer.require_finite` does, before anything is written, and what an earlier
        save has failed with.
        """
        self.trainer.require_finite()
        if self.curves:
            self.curves.write()
        now = replace(self.progress, seconds=time.monotonic() - self.started)
        tensors, counters = self.trainer.tensors(), replace(self.trainer.counters)

        def write(tensors: Mapping[str, Tensor]) -> None:
            if self.lock:
                self.lock.require()
            state = TrainState(tensors, counters, now, self.fingerprint)
            save_state(self.run, state)
            then(state)

        if self.ranks.lead:
            self._saver.save(tensors, write, behind=behind)
        if not behind:
            self.ranks.wait()  # where one ends, torchrun ends all
        self._saved_at = time.monotonic()

    @property
    def save_is_due(self) -> bool:
        """Whether a state is to be saved after this step; the first rank knows."""
        if not self.ranks.lead or self._saver.busy:
            return False
        return time.monotonic() - self._saved_at >= max(CHECKPOINT_SECONDS, self._saver.pause)

    def note_step(self) -> None:
        """Note that a step is done; raise what a save in the background has failed with."""
        self._saver.check()
        if self.curves:
            self.curves.note_step()

    def close(self) -> None:
        """Wait until nothing is written any more."""
        if self.watched:
            self.watched.end()
        self._saver.close()
        if self.curves:
            self.curves.close()

    def restore(self, state: TrainState) -> None:
        """Continue from a state, and make the run folder agree with it, or raise `RunError`."""
        try:
            self.trainer.restore(state.tensors, state.counters)
        except (ValueError, RuntimeError) as error:
            raise RunError(
                f"{self.run}: its state belongs to another head ({reason_of(error)}). Resume with "
                f"the version that began the training, or train again with --overwrite."
            ) from error
        if self.ranks.lead:
            reconcile_run(self.run, state)
        self.progress = state.progress
        self.started -= state.progress.seconds
        console.print(
            f"{self.run}: continuing after {self.epochs} of {self.trainer.config.epochs} epochs, "
            f"{state.counters.step:,} of {self.trainer.steps:,} steps"
        )

    def run_to_end(self, stop: Stop) -> None:
        """Train and score the remaining epochs; at a signal, save a state and raise `Stopped`."""

        def after_step() -> None:
            self.note_step()
            if self._agree_on_stop(stop, due=self.save_is_due):
                self.save(behind=True)

        trainer, config = self.trainer, self.trainer.config
        try:
            with self._progress() as advance:
                while not self.over:
                    title = f"epoch {self.epochs + 1}/{config.epochs}"
                    shown = partial(advance, title=title, note=self._describe_best())
                    loss = trainer.epoch(self.epochs, after_step, shown)
                    accuracy = self._score(stop)
                    best = ", the best so far" if accuracy > self.progress.best_accuracy else ""
                    console.print(
                        f"{title}: loss {loss:.4f}, accuracy {accuracy:.2f} % on "
                        f"{config.validation}{best}, {duration(trainer.counters.epoch_seconds)}"
                    )
                    self.end_epoch(loss, accuracy)
        except Stopped:
            self.save()
            raise
        finally:
            self.close()

    def _progress(self) -> AbstractContextManager[Advance]:
        """Show the progress of the whole training, of which a part may be done."""
        trainer, counters = self.trainer, self.trainer.counters
        each, begun = len(trainer.train_split), counters.epoch == self.epochs
        done = trainer.plan(counters.epoch)[: counters.batch].questions if begun else 0
        total = trainer.config.epochs * each
        return progress("training", total, done=self.epochs * each + done)

    def _describe_best(self) -> str:
        best = self.progress
        return f"best {best.best_accuracy:.2f} %, epoch {best.best_epoch}" if best.metrics else ""

    def _agree_on_stop(self, stop: Stop, *, due: bool = False) -> bool:
        """Raise `Stopped` on all ranks if one has a signal; return whether one's state is due."""
        number, due_on_any = self.ranks.largest(stop.number or 0, int(due))
        stop.obey(number)
        return bool(due_on_any)

    def _score(self, stop: Stop) -> float:
        if self.ranks.world > 1:
            return self.trainer.accuracy(lambda: self._agree_on_stop(stop))
        with stop.anywhere():
            return self.trainer.accuracy()

    def end_epoch(self, loss: float, accuracy: float) -> None:
        """Note the figures of an epoch, save a state, and save the weights if they are the best."""
        number, before = self.epochs + 1, self.progress
        self.progress = replace(
            before,
            metrics=[*before.metrics, self._make_line(number, loss, accuracy)],
            training_seconds=before.training_seconds + self.trainer.counters.epoch_seconds,
        )
        if self.curves:
            self.curves.end_epoch(accuracy)
        config = self.trainer.config
        if is_best := accuracy > before.best_accuracy or config.keep == "last":
            self.progress = replace(self.progress, best_accuracy=accuracy, best_epoch=number)

        def write(state: TrainState) -> None:  # the files that the state decides about; see above
            if is_best:
                save_best(self.run, state)
            write_metrics(self.run, state.progress.metrics)

        self.save(write, behind=True)

    def _make_line(self, number: int, loss: float, accuracy: float) -> EpochLine:
        """Return a line of metrics.jsonl. Heads of a sweep wait for their data together."""
        trainer, counters = self.trainer, self.trainer.counters
        waited = counters.waited - sum(line.waited for line in self.progress.metrics)
        return EpochLine(
            epoch=number,
            loss=loss,
            accuracy=accuracy,
            learning_rate=trainer.rate(counters.step - 1),
            seconds=round(counters.epoch_seconds, 3),
            questions_per_second=round(len(trainer.train_split) / counters.epoch_seconds, 1),
            waited=round(max(0.0, waited), 3),
        )

    def finish(self, data: TrainData) -> TrainResult:
        """Write the outcome to the run, and return it."""
        self._saver.wait()
        self.close()
        result, config = self._make_result(data), self.trainer.config
        if result.epochs < config.epochs:
            console.print(
                f"{self.run}: stops early after epoch {result.epochs}, because none of the last "
                f"{result.epochs - result.best_epoch} was better than epoch {result.best_epoch}"
            )
        if self.ranks.lead:
            about = {"metric": data.metric.name, **record_data(data.cache, config)}
            summary = result.to_json() | about
            write_card(self.run, cast(Outcome, summary))
            finish_run(self.run, data.cache, summary)
        self.ranks.wait()  # until there is a result
        return result

    def _make_result(self, data: TrainData) -> TrainResult:
        trainer, progress = self.trainer, self.progress
        config, seconds = trainer.config, progress.training_seconds
        return TrainResult(
            run=str(self.run),
            fusion=config.fusion,
            epochs=self.epochs,
            best_accuracy=data.metric.percent(progress.best_accuracy / 100),
            best_epoch=progress.best_epoch,
            trainable_parameters=sum(p.numel() for p in trainer.model.parameters()),
            questions_per_second=round(self.epochs * len(trainer.train_split) / seconds, 1),
            data_wait_fraction=round(trainer.counters.waited / seconds, 4),
            seconds=round(time.monotonic() - self.started, 3),
            answers=len(data.vocabulary),
            train_ceiling=data.ceilings[config.train_split],
            val_ceiling=data.ceilings[config.validation],
            not_written=tuple(self.curves.lost) if self.curves else (),
        )
