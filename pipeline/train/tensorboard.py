"""Curves of a training for TensorBoard, in RUN/tensorboard.

`loss` and `learning_rate` are of each step, `accuracy` of each epoch; all count steps. Losses stay
on the device until a state is saved or an epoch ends, so that no step waits for a GPU. After a
resume TensorBoard hides what a killed process had written beyond the state. Of several ranks the
first one writes: a step's loss is then that of its own part of the batch.
"""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.runs.weights import writing
from frozen_vqa.pipeline.train.optimizer import learning_rate
from frozen_vqa.pipeline.train.trainer import Trainer

EVENTS = "tensorboard"


def summary_writer() -> type[Any]:
    """Return TensorBoard's writer.

    Raises:
        ConfigError: if TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "--tensorboard needs TensorBoard, which is not installed: "
            "pip install 'frozen-vqa[tensorboard]'"
        ) from error
    if getattr(threading.excepthook, "func", None) is not _leave_to_the_caller:
        threading.excepthook = partial(_leave_to_the_caller, threading.excepthook)
    return SummaryWriter


def _leave_to_the_caller(
    before: Callable[[threading.ExceptHookArgs], object], args: threading.ExceptHookArgs
) -> None:
    """Show no traceback of a full disk in TensorBoard's thread: its next call raises the same."""
    if type(args.thread).__module__.split(".")[0] != "tensorboard" or not isinstance(
        args.exc_value, OSError
    ):
        before(args)


class Events:
    """Writes the curves of one training, from where it stands.

    Args:
        run: The run folder.
        trainer: Between two steps.
    """

    def __init__(self, run: Path, trainer: Trainer) -> None:
        self.run, self.trainer = run, trainer
        self.noted: list[tuple[int, int, Tensor]] = []  # step, questions and loss up to it
        self.before = (trainer.questions, trainer.loss.item())
        with writing(run):
            self.writer = summary_writer()(
                str(run / EVENTS), purge_step=trainer.step + 1 if trainer.step else None
            )

    def step(self) -> None:
        """Note the step that was made."""
        trainer = self.trainer
        seen = self.noted[-1][1] if self.noted else self.before[0]
        if trainer.questions == seen:
            return  # a rank may have no question of a small batch
        self.noted.append((trainer.step, trainer.questions, trainer.loss.clone()))

    def write(self) -> None:
        """Write what was noted; here a GPU is waited for."""
        if not self.noted:
            return
        totals = torch.stack([loss for *_, loss in self.noted]).tolist()
        trainer = self.trainer
        with writing(self.run):
            for (step, questions, _), total in zip(self.noted, totals, strict=True):
                loss = (total - self.before[1]) / (questions - self.before[0])
                rate = learning_rate(step - 1, steps=trainer.steps, config=trainer.config)
                self.writer.add_scalar("loss", loss, step)
                self.writer.add_scalar("learning_rate", rate, step)
                self.before = (questions, total)
            self.writer.flush()
        self.noted = []

    def epoch(self, accuracy: float) -> None:
        """Write the end of an epoch; the next one's loss is summed from zero."""
        self.write()
        self.before = (self.trainer.questions, 0.0)
        with writing(self.run):
            self.writer.add_scalar("accuracy", accuracy, self.trainer.step)
            self.writer.flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self.write()
        with writing(self.run):
            self.writer.close()
