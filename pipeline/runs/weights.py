"""The weights of a run, with the digest that `pipeline/runs/sealed.py` gives them. Two are kept.

    RUN/model.safetensors            the best weights
    RUN/model.previous.safetensors   the best weights before them

Their record holds epoch and accuracy, and the digests of the run's files that say what they mean.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from torch import Tensor

from frozen_vqa.cache.typed_json import Percent, decode
from frozen_vqa.pipeline.errors import NotFiniteError, RunError
from frozen_vqa.pipeline.runs.folder import (
    CURRENT,
    PREVIOUS,
    explain_run_write_errors,
    weight_files,
)
from frozen_vqa.pipeline.runs.sealed import not_finite, read_sealed, seal_parts, why_unreadable


@dataclass(frozen=True)
class Weights:
    """Weights and where they come from."""

    tensors: Mapping[str, Tensor]  # by name; on the CPU if they were loaded
    epoch: Annotated[int, (1, 2**48)]  # after which they were saved
    accuracy: Percent  # on the validation split
    files: Mapping[str, str]  # digests of the run's files that say what they mean


def require_finite_weights(run: Path, tensors: Mapping[str, Tensor], *, epoch: int) -> None:
    """Raise `NotFiniteError` unless every number is finite."""
    if bad := not_finite(tensors):
        raise NotFiniteError(
            f"{run}: after epoch {epoch} the weights {', '.join(bad[:5])} are not finite; "
            f"they were not saved, and earlier files of the run are whole. Lower --lr or --clip."
        )


def save_weights(run: Path, weights: Weights) -> None:
    """Write weights, whole or not at all; the best ones so far become the previous ones.

    Raises `RunError` if a weight is not finite, or the disk is full; nothing has changed then.
    """
    require_finite_weights(run, weights.tensors, epoch=weights.epoch)
    record = {name: value for name, value in vars(weights).items() if name != "tensors"}
    parts = seal_parts(weights.tensors, record)
    with explain_run_write_errors(run):
        weight_files(run).replace(*parts)


def load_weights(run: Path) -> Weights:
    """Read the best weights; raise `RunError` if there are none, or they are damaged."""
    try:
        return read_weights(run / CURRENT)
    except (OSError, ValueError) as error:
        begun = (run / "metrics.jsonl").exists() or (run / PREVIOUS).exists()
        if isinstance(error, FileNotFoundError) and not begun:
            raise RunError(
                f"{run}: there are no weights yet; its training was stopped in the first epoch. "
                f"Give the same train-head command with --resume, or with --overwrite."
            ) from None
        raise RunError(
            f"{run / CURRENT}: {why_unreadable(error)}. {_advise_repair(run)}"
        ) from error


def read_weights(path: Path) -> Weights:
    """Read one file; raise `OSError` or `ValueError` as `read_sealed` does."""
    tensors, record = read_sealed(path, "weights")
    try:
        return decode(Weights, {**record, "tensors": tensors})
    except TypeError as error:
        raise ValueError(f"does not fit the format of weights ({error})") from error


def _advise_repair(run: Path) -> str:
    try:
        previous = read_weights(run / PREVIOUS)
    except (OSError, ValueError):
        return "Restore it from a copy, or train the head again."
    command = shlex.join(["mv", str(run / PREVIOUS), str(run / CURRENT)])
    return (
        f"The weights before it, of epoch {previous.epoch} (accuracy {previous.accuracy:.2f} %), "
        f"are whole: go back to them with `{command}`, or train the head again."
    )
