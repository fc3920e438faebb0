"""The figures of a training, from what its state keeps."""

from frozen_vqa.pipeline.runs.state import Counters, Progress
from frozen_vqa.pipeline.watch.figures import Values


def training_figures(progress: Progress, counters: Counters, *, steps: int, epochs: int) -> Values:
    """Return the figures of a training of so many steps and epochs; no tensor is read."""
    lines = progress.metrics
    begun = counters.epoch == len(lines)  # else its seconds are among those of the lines
    found = {
        "train_steps_total": counters.step,
        "train_steps_planned": steps,
        "train_epochs_total": len(lines),
        "train_epochs_planned": epochs,
        "train_seconds_total": progress.training_seconds + begun * counters.epoch_seconds,
        "train_waiting_seconds_total": counters.waited,
    }
    if not lines:
        return found
    return found | {
        "train_loss": lines[-1].loss,
        "train_accuracy_ratio": lines[-1].accuracy / 100,
        "train_best_accuracy_ratio": progress.best_accuracy / 100,
        "train_learning_rate": lines[-1].learning_rate,
    }
