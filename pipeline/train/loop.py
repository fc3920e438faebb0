"""A training and its run folder: what is written when, and how it goes on.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.metrics.vqa_accuracy import percent
from frozen_vqa.pipeline.runs.card import write_card
from frozen_vqa.pipeline.runs.run import finish_run, write_metrics
from frozen_vqa.pipeline.runs.state import Began, Progress, TrainState, save_state
from frozen_vqa.pipeline.runs.weights import require_finite
from frozen_vqa.pipeline.system.console import console, duration
from frozen_vqa.pipeline.system.signals import Stop, Stopped
from frozen_vqa.pipeline.train.data import TrainData
from frozen_vqa.pipeline.train.optimizer import learning_rate
from frozen_vqa.pipeline.train.resume import agree, save_best
from frozen_vqa.pipeline.train.tensorboard import Events
from frozen_vqa.pipeline.train.trainer import Trainer

CHECKPOINT_SECONDS = 120.0
"""Training that a kill may cost."""


@dataclass(frozen=True)
class TrainResult:
    """What a training did.

    Attributes:
        run: The run folder.
        fusion: The fusion kind.
        epochs: Passes over the training split that were made.
        best_accuracy: Accuracy in percent on the validation split of the weights that were kept.
        best_epoch: After which epoch that was, from 1.
        trainable_parameters: Numbers that were trained.
        questions_per_second: In training, without validation.
        data_wait_fraction: Share of the training time in which the step waited for features.
        seconds: Wall time.
        answers: Classes of the head; this and the next two are None in a run of before they were.
        train_ceiling: Percent that the best class for each question scores on the training split,
        val_ceiling: and on the validation split; no head is above that.
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
    answers: int | None = None
    train_ceiling: float | None = None
    val_ceiling: float | None = None


class Training:
    """A trainer and its run folder, into which the first rank alone writes.

    Args:
        run: The folder, as `start_run` left it.
        trainer: Before its first step.
        began: Goes into every state.
        started: When this process began, by the monotonic clock.
    """

    def __init__(self, run: Path, trainer: Trainer, began: Began, started: float) -> None:
        self.run = run
        self.trainer = trainer
        self.ranks = trainer.ranks
        self.began = began
        self.started = started
        self.events: Events | None = None
        self.saved = time.monotonic()
        self.metrics: list[Mapping[str, Any]] = []
        self.best_accuracy, self.best_epoch, self.training_seconds = -1.0, 0, 0.0

    @property
    def over(self) -> bool:
        """Whether all epochs are trained and scored, or patience has run out."""
        config, done = self.trainer.config, len(self.metrics)
        return done == config.epochs or 0 < config.patience <= done - self.best_epoch

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

    def save(self) -> TrainState:
        """Save a state and return it. All ranks have to call it."""
        if self.events:
            self.events.write()
        state = self.state()
        if self.ranks.lead:
            save_state(self.run, state)
        self.ranks.wait()  # where one ends, torchrun ends all
        self.saved = time.monotonic()
        return state

    @property
    def due(self) -> bool:
        """Whether the last state is old."""
        return time.monotonic() - self.saved >= CHECKPOINT_SECONDS

    def note_step(self) -> None:
        """Note a step that was made, for TensorBoard."""
        if self.events:
            self.events.step()

    def save_in_time(self) -> None:
        """Save a state, between two steps, if the last one is old."""
        if self.due:
            self.save()

    def go_on(self, state: TrainState) -> None:
        """Take the place of the training whose state this is."""
        found, trainer = state.progress, self.trainer
        try:
            trainer.restore(state.tensors)
        except (KeyError, IndexError, RuntimeError) as error:
            reason = textwrap.shorten(str(error), 200, placeholder=" ...")
            raise RunError(
                f"{self.run}: its state is that of another head ({reason}). Go on with the "
                f"version that began it, or train anew with --overwrite."
            ) from error
        if self.ranks.lead:
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
            self.note_step()
            if self._agreed(stop, due=self.due):
                self.save()

        try:
            while not self.over:
                loss = self.trainer.epoch(len(self.metrics), after_step)
                accuracy = self._accuracy(stop)
                self._show_epoch(loss, accuracy)
                self.end_epoch(loss, accuracy)
        except Stopped:
            self.save()
            raise
        finally:
            if self.events:
                self.events.close()

    def _agreed(self, stop: Stop, *, due: bool = False) -> bool:
        """Raise `Stopped` if any rank has had a signal; return whether a state is due on any.

        So all ranks stop, and save, at the same place.
        """
        number, due_on_any = self.ranks.largest(stop.number or 0, int(due))
        stop.obey(number)
        return bool(due_on_any)

    def _accuracy(self, stop: Stop) -> float:
        if self.ranks.world > 1:
            return self.trainer.accuracy(lambda: self._agreed(stop))
        with stop.anywhere():
            return self.trainer.accuracy()

    def _show_epoch(self, loss: float, accuracy: float) -> None:
        config = self.trainer.config
        console.print(
            f"epoch {len(self.metrics) + 1}/{config.epochs}: loss {loss:.4f}, accuracy "
            f"{accuracy:.2f} % on {config.val_split}, {duration(self.trainer.epoch_seconds)}"
        )

    def end_epoch(self, loss: float, accuracy: float) -> None:
        """Note what an epoch came to, save a state, and keep the weights if they are the best."""
        number, seconds = len(self.metrics) + 1, self.trainer.epoch_seconds
        self.metrics.append(self._line(number, loss, accuracy))
        self.training_seconds += seconds
        if self.events:
            self.events.epoch(accuracy)
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = accuracy, number
            require_finite(self.run, self.trainer.scored.state_dict(), epoch=number)
        state = self.save()  # before what it decides; see above
        if not self.ranks.lead:
            return
        if self.best_epoch == number:
            save_best(self.run, state)
        write_metrics(self.run, self.metrics)

    def _line(self, number: int, loss: float, accuracy: float) -> dict[str, Any]:
        """Return a line of metrics.jsonl; heads of a sweep wait for their data together."""
        trainer, seconds = self.trainer, self.trainer.epoch_seconds
        waited = trainer.train_reader.waited - sum(line["waited"] for line in self.metrics)
        return {
            "epoch": number,
            "loss": loss,
            "accuracy": accuracy,
            "learning_rate": learning_rate(
                trainer.step - 1, steps=trainer.steps, config=trainer.config
            ),
            "seconds": round(seconds, 3),
            "questions_per_second": round(len(trainer.train_split) / seconds, 1),
            "waited": round(max(0.0, waited), 3),
        }

    def finish(self, data: TrainData) -> TrainResult:
        """Record in the run what came out, and return it."""
        if self.events:
            self.events.close()
        result = self._result(data)
        if result.epochs < self.trainer.config.epochs:
            console.print(
                f"{self.run}: ends after epoch {result.epochs}, for none of the last "
                f"{result.epochs - result.best_epoch} was better than epoch {result.best_epoch}",
                soft_wrap=True,
            )
        if self.ranks.lead:
            origin = data.cache.manifest.splits[self.trainer.config.train_split].origin
            summary = {**vars(result), "metric": data.rules, "dataset": origin.get("dataset")}
            write_card(self.run, summary)
            finish_run(self.run, data.cache, summary)
        self.ranks.wait()  # until there is a result
        return result

    def _result(self, data: TrainData) -> TrainResult:
        config, trainer, seconds = self.trainer.config, self.trainer, self.training_seconds
        epochs = len(self.metrics)
        return TrainResult(
            run=str(self.run),
            fusion=config.fusion,
            epochs=epochs,
            best_accuracy=percent(self.best_accuracy / 100, data.rules),
            best_epoch=self.best_epoch,
            trainable_parameters=sum(p.numel() for p in trainer.model.parameters()),
            questions_per_second=round(epochs * len(trainer.train_split) / seconds, 1),
            data_wait_fraction=round(trainer.train_reader.waited / seconds, 4),
            seconds=round(time.monotonic() - self.started, 3),
            answers=len(data.vocabulary),
            train_ceiling=data.ceilings[config.train_split],
            val_ceiling=data.ceilings[config.val_split],
        )
