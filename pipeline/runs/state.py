"""The state of an unfinished training: everything needed to continue and end as if undisturbed.

    RUN/state/state.safetensors            the last state
    RUN/state/state.previous.safetensors   the one before

Tensors: `model.NAME`; `average.NAME` where the weights are averaged; `optimizer.NAME.KEY`, AdamW's
moments and step count of each parameter; `epoch.loss`, the sum of the current epoch on each rank;
`rng.cpu`, and `rng.cuda` or `rng.mps` of the GPU. The record holds `Counters`, `Progress` and
`TrainingFingerprint`. Batches are a function of seed and epoch, so a number is enough for them.
Both states lead to the same end, so a damaged last one costs minutes and no more.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from torch import Tensor

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.errors import made_by
from frozen_vqa.cache.format.finite import LARGEST
from frozen_vqa.cache.typed_json import Count, Percent, decode, finite_json
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.description import no_state
from frozen_vqa.pipeline.runs.folder import METRICS, explain_run_write_errors, state_files
from frozen_vqa.pipeline.runs.sealed import read_sealed, seal_parts, why_unreadable
from frozen_vqa.pipeline.runs.weights import require_finite_weights
from frozen_vqa.pipeline.system.console import console

FORMAT = 8
"""Raised when the record changes, or when a resumed training would take other steps."""

Seconds = Annotated[float, (0, 1e10)]  # at most three centuries


@dataclass
class Counters:
    """How far a trainer is. The trainer itself advances, saves and restores them."""

    epoch: Count  # the last one that began
    batch: Count  # batches of its plan that are done, up to the last step
    step: Count  # steps of the optimizer in all epochs
    epoch_seconds: Seconds  # training time of that epoch
    waited: Seconds  # seconds in which steps waited for features, in all epochs


@dataclass(frozen=True)
class EpochLine:
    """A line of metrics.jsonl: the figures of one epoch."""

    epoch: Annotated[int, (1, 2**48)]
    loss: Annotated[float, (0, LARGEST)]
    accuracy: Percent
    learning_rate: Annotated[float, (0, 10)]  # of its last step
    seconds: Seconds  # of training
    questions_per_second: Annotated[float, (0, LARGEST)]
    waited: Seconds  # seconds for features


@dataclass(frozen=True)
class Progress:
    """The results of the complete epochs of a training."""

    metrics: list[EpochLine]  # one for each epoch
    best_accuracy: Annotated[float, (-1, 100)]  # in percent; -1 before the first
    best_epoch: Count  # from 1; 0 before the first
    training_seconds: Seconds  # of these epochs
    seconds: Seconds  # wall time of all processes together, up to this state


@dataclass(frozen=True)
class TrainingFingerprint:
    """Everything that must stay the same in mid-training, because the result depends on it."""

    config: Mapping[str, Any]  # every setting
    cache: Mapping[str, Any]  # digests of what it reads; see `fingerprint_cache`
    files: Mapping[str, str]  # digests of the run's files that say what the weights mean
    machine: Mapping[str, Any]  # what decides how numbers are rounded


@dataclass(frozen=True)
class TrainState:
    """Everything that a resumed training needs; the tensors by the names above."""

    tensors: Mapping[str, Tensor]
    counters: Counters
    progress: Progress
    fingerprint: TrainingFingerprint


def select_tensors(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors PREFIX.NAME by their names."""
    start = prefix + "."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def write_metrics(run: Path, lines: Sequence[EpochLine]) -> None:
    """Write metrics.jsonl with these lines; a failure leaves it as it was."""
    text = "".join(json.dumps(vars(line), allow_nan=False) + "\n" for line in lines)
    with explain_run_write_errors(run):
        if text:
            write_atomically(run / METRICS, text.encode())
        else:
            (run / METRICS).unlink(missing_ok=True)


def parse_metrics(data: bytes) -> list[EpochLine]:
    """Return the lines of a metrics.jsonl; raise `ValueError` or `TypeError` if it is no such."""
    return [decode(EpochLine, finite_json(line)) for line in data.splitlines()]


def save_state(run: Path, state: TrainState) -> None:
    """Write a state; the last one becomes the previous one. After a `RunError` nothing changed."""
    require_finite_weights(run, state.tensors, epoch=state.counters.epoch + 1)
    record = {name: asdict(part) for name, part in vars(state).items() if name != "tensors"}
    parts = seal_parts(state.tensors, {"format": FORMAT, **record})
    with explain_run_write_errors(run):
        state_files(run).replace(*parts)


def has_state(run: Path) -> bool:
    """Whether there is a state to continue from, whole or not."""
    files = state_files(run)
    return files.current.exists() or files.previous.exists()


def remove_state(run: Path) -> None:
    """Remove the states of a run, and leftovers of a killed process."""
    files = state_files(run)
    files.remove()
    if files.current.parent.is_dir() and not any(files.current.parent.iterdir()):
        files.current.parent.rmdir()


def recover_state(run: Path) -> TrainState:
    """Return the last state; if it is damaged, replace it by the one before, and say so.

    Raises `RunError` if none is whole.
    """
    files = state_files(run)
    try:
        return _read(files.current)
    except (OSError, ValueError) as error:
        reason = why_unreadable(error)
    try:
        state = _read(files.previous)
    except (OSError, ValueError) as error:
        if not has_state(run):
            raise no_state(run) from None
        raise RunError(
            f"{files.current}: {reason}, and {files.previous.name} {why_unreadable(error)}. "
            f"Restore one from a copy, or train the head again with --overwrite "
            f"in place of --resume."
        ) from error
    # At once: the next save would replace the whole one by the damaged one.
    with explain_run_write_errors(run):
        files.go_back()
    console.print(
        f"{files.current}: {reason}; continuing from the state before it, of epoch "
        f"{state.counters.epoch + 1}, batch {state.counters.batch}, which leads to the same end"
    )
    return state


def _read(path: Path) -> TrainState:
    tensors, record = read_sealed(path, "a training state")
    if record.get("format") != FORMAT:
        found = record.get("format")
        raise ValueError(
            f"has format {found!r:.40}, but this version of frozen-vqa reads {FORMAT} "
            f"({made_by(found, FORMAT).rstrip('.')})"
        )
    parts = {"counters": Counters, "progress": Progress, "fingerprint": TrainingFingerprint}
    try:
        made: dict[str, Any] = {name: decode(kind, record[name]) for name, kind in parts.items()}
        keep = made["fingerprint"].config.get("keep")
        _require_consistent(made["counters"], made["progress"], keep)
        return TrainState(tensors, **made)
    except (KeyError, TypeError) as error:
        raise ValueError(f"does not fit the format of a training state ({error})") from error


def _require_consistent(counters: Counters, progress: Progress, keep: object) -> None:
    """Raise `TypeError` unless a training that keeps these weights could have these results."""
    lines = progress.metrics
    accuracies, done = [line.accuracy for line in lines], len(lines)
    best = max(accuracies[-1:] if keep == "last" else accuracies, default=-1)
    best_epoch = done if keep == "last" or not lines else 1 + accuracies.index(best)
    needed = {
        "epochs": ([line.epoch for line in lines], list(range(1, done + 1))),
        "best_accuracy": (progress.best_accuracy, best),
        "best_epoch": (progress.best_epoch, best_epoch),
        "epoch": (counters.epoch, min(max(counters.epoch, done - 1), done)),
        "a time of 0 s": (not counters.epoch_seconds, not counters.batch),
        "a training of 0 s": (not progress.training_seconds, not lines),
    }
    for name, (found, possible) in needed.items():
        if found != possible:
            raise TypeError(f"{name!r} is {found!r:.60}, and {possible!r:.60} fits the rest")
