"""The weights of a run: safetensors files that carry their own digest. The last two are kept.

    RUN/model.safetensors            the best weights
    RUN/model.previous.safetensors   those that were the best before

safetensors itself knows no checksum: a flipped bit loads as another number. So each file holds in
its metadata, under `run`, one JSON object: epoch and accuracy of the weights, the digests of the
run's other files, and the xxh3 digest of all that and of the name, type, shape and bytes of every
tensor. Weights and digest are one file, replaced in one step, and any reader of safetensors loads
it. Never a pickle.
"""

import json
import os
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import xxhash
from safetensors import SafetensorError
from torch import Tensor

from cache.files import TEMPORARY, sync_directory, write_atomically
from pipeline.errors import RunError

CURRENT, PREVIOUS = "model.safetensors", "model.previous.safetensors"
COMING = "model.next.safetensors"
"""Whole, but not yet named; only a killed process leaves it."""


@dataclass(frozen=True)
class Weights:
    """Weights and where they come from.

    Attributes:
        tensors: By name; on the CPU if they were loaded.
        epoch: After which epoch they were saved, from 1.
        accuracy: In percent, on the validation split.
        files: Digests of the other files of the run.
    """

    tensors: Mapping[str, Tensor]
    epoch: int
    accuracy: float
    files: Mapping[str, str]


@contextmanager
def writing(run: Path) -> Iterator[None]:
    """Turn what the operating system says against writing into a `RunError`."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{run}: cannot be written ({error.strerror}). Make room or give another --run; "
            f"what was saved before is whole."
        ) from error


def save_weights(run: Path, weights: Weights) -> None:
    """Write weights, whole or not at all; those that were there become the previous ones.

    Raises:
        RunError: if a weight is not finite, or the disk is full; nothing has changed then.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.tensors.items()}
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise RunError(
            f"{run}: after epoch {weights.epoch} the weights {', '.join(bad[:5])} are not finite; "
            f"they were not saved, and what was saved before is whole. Lower --lr or --clip."
        )
    record: dict[str, Any] = {
        "epoch": weights.epoch,
        "accuracy": weights.accuracy,
        "files": dict(weights.files),
    }
    record["xxh3"] = _digest(tensors, record)
    # One key, because safetensors writes several in an order that changes from time to time.
    data = safetensors.torch.save(tensors, {"run": json.dumps(record, sort_keys=True)})
    with writing(run):
        _replace(run, data)


def _replace(run: Path, data: bytes) -> None:
    """Put new weights in place; whenever the process dies, there are whole ones under a name."""
    current, coming = run / CURRENT, run / COMING
    write_atomically(coming, data)
    try:
        if current.exists():
            _keep(current, run / PREVIOUS)
        coming.replace(current)
    except BaseException:
        coming.unlink(missing_ok=True)
        raise
    sync_directory(run)


def _keep(current: Path, previous: Path) -> None:
    aside = previous.with_name(previous.name + TEMPORARY)
    aside.unlink(missing_ok=True)  # may be a name of the current file: never write into that
    try:
        os.link(current, aside)
    except OSError:  # not every file system has hard links
        write_atomically(previous, current.read_bytes())
        return
    try:
        aside.replace(previous)
    finally:
        aside.unlink(missing_ok=True)  # a rename does nothing if both are names of one file


def remove_weights(run: Path) -> None:
    """Remove all weights of a run, and what a killed process left of some."""
    for name in (CURRENT, PREVIOUS, COMING):
        (run / name).unlink(missing_ok=True)
        (run / (name + TEMPORARY)).unlink(missing_ok=True)


def load_weights(run: Path) -> Weights:
    """Read the best weights and check their digest.

    Raises:
        RunError: if there are none, or they are not what was saved.
    """
    current = run / CURRENT
    try:
        return _read(current)
    except FileNotFoundError:
        if not (run / PREVIOUS).exists():
            raise RunError(
                f"{run}: there are no weights yet; its training was stopped in the first epoch"
            ) from None
        reason = "is missing"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except ValueError as error:
        reason = str(error)
    raise RunError(f"{current}: {reason}. {_way_on(run)}")


def _read(path: Path) -> Weights:
    """Read one file; what is wrong with its content comes as a `ValueError`."""
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ValueError(f"does not fit the format of weights ({why}); it is damaged") from error
    try:
        record = json.loads(header["__metadata__"]["run"])
        expected = record.pop("xxh3")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("carries no digest, so it cannot be told from damaged weights") from None
    if expected != _digest(tensors, record):
        raise ValueError("does not fit its digest; it was changed or damaged")
    try:
        files = {str(name): str(digest) for name, digest in record["files"].items()}
        return Weights(tensors, int(record["epoch"]), float(record["accuracy"]), files)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"does not fit the format of weights ({error})") from error


def _digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    names = sorted(tensors)
    shapes = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    found = xxhash.xxh3_128(json.dumps([record, shapes], sort_keys=True).encode())
    for name in names:
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _way_on(run: Path) -> str:
    try:
        previous = _read(run / PREVIOUS)
    except (OSError, ValueError):
        return "Restore it from a copy, or train the head again."
    command = shlex.join(["mv", str(run / PREVIOUS), str(run / CURRENT)])
    return (
        f"The weights before it, of epoch {previous.epoch} (accuracy {previous.accuracy:.2f} %), "
        f"are whole: go back to them with `{command}`, or train the head again."
    )
