"""The state of a training in mid-course: all that it takes to go on, and end as if undisturbed.

    RUN/state/state.safetensors            the last state
    RUN/state/state.previous.safetensors   the one before

Tensors: `model.NAME`; `average.NAME` where the weights are averaged; `optimizer.NAME.KEY`, AdamW's
moments and step count of each parameter; `epoch.loss`, the running epoch's sum on each rank;
`rng.cpu`, and `rng.cuda` where a GPU is used. The record holds `Progress` and `Began`. Batches are
a function of seed and epoch, so their place is a number.
A state before the last leads to the same end, so that a damaged one costs minutes and no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.sealed import LastTwo, read_sealed, seal
from frozen_vqa.pipeline.runs.weights import writing
from frozen_vqa.pipeline.system.console import console

FORMAT = 5
"""Raised whenever a training that goes on would take other steps: other batches, other sums."""
STATE = "state/state.safetensors"

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        metrics: The lines of metrics.jsonl: one for each epoch that was trained and scored.
        best_accuracy: In percent; -1 before the first.
        best_epoch: From 1; 0 before the first.
        epoch: The epoch of `batch`, from 0; the last that was begun.
        batch: How many batches of its plan are done; a border of two steps.
        step: Steps of the optimizer so far.
        epoch_seconds: Training time of that epoch.
        training_seconds: Training time of the epochs before it.
        waited: Seconds in which steps waited for features.
        seconds: Wall time of all processes together.
    """

    metrics: Sequence[Mapping[str, Any]]
    best_accuracy: float
    best_epoch: int
    epoch: int
    batch: int
    step: int
    epoch_seconds: float
    training_seconds: float
    waited: float
    seconds: float


@dataclass(frozen=True)
class Began:
    """What has to be as it was when the training began, or the end would be another.

    Attributes:
        config: Every setting.
        cache: Digests of what is read of the cache; see `pipeline/train/resume.py`.
        files: Digests of the run's files that say what the weights mean.
        machine: What decides how numbers are rounded.
    """

    config: Mapping[str, Any]
    cache: Mapping[str, Any]
    files: Mapping[str, str]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class TrainState:
    """Everything that a training goes on from; the tensors by the names above."""

    tensors: Mapping[str, Tensor]
    progress: Progress
    began: Began


def state_files(run: Path) -> LastTwo:
    """Return where the states of a run lie."""
    return LastTwo(run / STATE)


def save_state(run: Path, state: TrainState) -> None:
    """Write a state, whole or not at all; the one that was there becomes the previous one.

    Raises:
        RunError: if the disk is full; nothing has changed then.
    """
    record = {"format": FORMAT, "progress": asdict(state.progress), "began": asdict(state.began)}
    data = seal(state.tensors, record)
    with writing(run):
        state_files(run).replace(data)


def has_state(run: Path) -> bool:
    """Whether there is something to go on from, whole or not."""
    files = state_files(run)
    return files.current.exists() or files.previous.exists()


def remove_state(run: Path) -> None:
    """Remove the states of a run, and what a killed process left of some."""
    files = state_files(run)
    files.remove()
    if files.current.parent.is_dir() and not any(files.current.parent.iterdir()):
        files.current.parent.rmdir()


def recover_state(run: Path) -> TrainState:
    """Return the last state; from a damaged one go back to the one before, for good, and say so.

    Raises:
        RunError: if there is none, or none is whole.
    """
    files = state_files(run)
    try:
        return _read(files.current)
    except (OSError, ValueError) as error:
        reason = _reason(error)
    try:
        state = _read(files.previous)
    except (OSError, ValueError) as error:
        if not has_state(run):
            raise no_state(run) from None
        raise RunError(
            f"{files.current}: {reason}, and {files.previous.name} {_reason(error)}. Restore one "
            f"from a copy, or train the head again with --overwrite in place of --resume."
        ) from error
    # At once: the next save would put the damaged one in the place of the whole one.
    with writing(run):
        files.go_back()
    console.print(
        f"{files.current}: {reason}; going on from the state before it, of epoch "
        f"{state.progress.epoch + 1}, batch {state.progress.batch}, which ends the same",
        soft_wrap=True,
    )
    return state


def no_state(run: Path) -> RunError:
    """Say that there is nothing to go on from."""
    overwrite = ", and with --overwrite" if (run / "config.json").exists() else ""
    return RunError(
        f"{run}: there is no training here to go on with (state/ is empty). "
        f"Train without --resume{overwrite}."
    )


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _read(path: Path) -> TrainState:
    tensors, record = read_sealed(path, "a training state")
    if record.get("format") != FORMAT:
        raise ValueError(f"has format {record.get('format')!r}, this version reads {FORMAT}")
    try:
        return TrainState(
            tensors, _made(Progress, record["progress"]), _made(Began, record["began"])
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"does not fit the format of a training state ({error})") from error


def _made(kind: type[T], body: Mapping[str, Any]) -> T:
    """Make a dataclass; a file from elsewhere may hold anything anywhere."""
    made = kind(**body)
    for field in fields(kind):  # type: ignore[arg-type]
        value = getattr(made, field.name)
        needed: Any = {float: (int, float), int: int}.get(field.type, (list, dict))  # type: ignore
        if not isinstance(value, needed):
            raise TypeError(f"{field.name!r} is {value!r:.60}")
    return made
