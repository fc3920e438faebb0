"""Curves of a training for TensorBoard, in RUN/tensorboard.

`loss` and `learning_rate` belong to each step, `accuracy` to each epoch; all count steps. Losses
stay on the device until a state is saved or an epoch ends, so that no step waits for a GPU. After a
resume TensorBoard hides the points that a killed process wrote after the state. Only the first rank
writes; a step's loss is then that of its own part of the batch.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.runs.folder import explain_run_write_errors, own_run
from frozen_vqa.pipeline.system.console import beside_the_work
from frozen_vqa.pipeline.train.trainer import Trainer

EVENTS = "tensorboard"


def summary_writer() -> type[Any]:
    """Return TensorBoard's writer; raise `ConfigError` if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "--tensorboard needs TensorBoard, which is not installed: "
            "pip install 'frozen-vqa[tensorboard]'"
        ) from error
    if getattr(threading.excepthook, "func", None) is not _hide_write_errors:
        threading.excepthook = partial(_hide_write_errors, threading.excepthook)
    return SummaryWriter


def _hide_write_errors(
    before: Callable[[threading.ExceptHookArgs], object], args: threading.ExceptHookArgs
) -> None:
    """Show no traceback of a full disk in TensorBoard's thread: its next call raises the same."""
    of_tensorboard = type(args.thread).__module__.split(".")[0] == "tensorboard"
    if not (of_tensorboard and isinstance(args.exc_value, OSError)):
        before(args)


class Curves:
    """Writes the curves of a training that is between two steps.

    If a curve cannot be written, `lost` says why, and the training goes on without curves.
    """

    def __init__(self, run: Path, trainer: Trainer) -> None:
        self.run, self.trainer = run, trainer
        self.lost: list[str] = []
        self._noted: list[tuple[int, int, Tensor]] = []  # step, questions and loss up to it
        self._before = (trainer.questions, trainer.loss.item())
        step = trainer.counters.step
        own = own_run(run)
        with self._beside_the_training():
            before = set(run.glob(f"{EVENTS}/*"))
            self.writer = summary_writer()(str(run / EVENTS), purge_step=step + 1 if step else None)
            for path in set(run.glob(f"{EVENTS}/*")) - before:  # its name holds a time
                own.adopt(str(path.relative_to(run)))

    def note_step(self) -> None:
        if self.lost:
            return
        step, questions = self.trainer.counters.step, self.trainer.questions
        seen = self._noted[-1][1] if self._noted else self._before[0]
        if questions > seen:  # a rank may have no question of a small batch
            self._noted.append((step, questions, self.trainer.loss.clone()))

    def write(self) -> None:
        """Write the noted steps; this waits for a GPU."""
        if self.lost or not self._noted:
            return
        totals = torch.stack([loss for *_, loss in self._noted]).tolist()
        with self._beside_the_training():
            for (step, questions, _), total in zip(self._noted, totals, strict=True):
                loss = (total - self._before[1]) / (questions - self._before[0])
                self.writer.add_scalar("loss", loss, step)
                self.writer.add_scalar("learning_rate", self.trainer.rate(step - 1), step)
                self._before = (questions, total)
            self.writer.flush()
        self._noted = []

    def end_epoch(self, accuracy: float) -> None:
        """Write the end of an epoch; the sum of losses of the next one begins at zero."""
        self.write()
        self._before = (self.trainer.questions, 0.0)
        if self.lost:
            return
        with self._beside_the_training():
            self.writer.add_scalar("accuracy", accuracy, self.trainer.counters.step)
            self.writer.flush()

    def close(self) -> None:
        """Write the remaining steps and close the file."""
        self.write()
        if self.lost:
            return
        with self._beside_the_training():
            self.writer.close()

    @contextmanager
    def _beside_the_training(self) -> Iterator[None]:
        with beside_the_work(self.lost), explain_run_write_errors(self.run):
            yield
