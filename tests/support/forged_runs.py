"""Weights that a stranger made, with digests that fit them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from frozen_vqa.pipeline.runs import sealed
from tests.support.forged_caches import BAD

Forgery = Callable[[dict[str, Any], dict[str, Any]], object]
"""Changes tensors and record of a sealed file."""


def forge(path: Path, change: Forgery) -> None:
    """Change a sealed file, and seal it again."""
    tensors, record = sealed.read_sealed(path, "weights")
    change(tensors, record)
    path.write_bytes(seal_any(tensors, record))


def seal_any(tensors: dict[str, Any], record: dict[str, Any]) -> bytes:
    """Return what `sealed.seal` would, had it also types that we do not write."""
    meaning = {**record, "xxh3": sealed.tensors_digest(tensors, record)}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(tensors, {"run": json.dumps(meaning, sort_keys=True)})


BIAS = "head.bias"
WEIGHTS: dict[str, Forgery] = {
    **{
        name: lambda t, r, value=value: t[BIAS].fill_(value)  # type: ignore[misc]
        for name, value in BAD.items()
    },
    "one number": lambda t, r: t[BIAS].__setitem__(0, float("nan")),
    "complex": lambda t, r: t.update({BIAS: t[BIAS].to(torch.complex64)}),
    "float8": lambda t, r: t.update({BIAS: t[BIAS].to(torch.float8_e4m3fn)}),
    "float64": lambda t, r: t.update({BIAS: t[BIAS].double()}),
    "half": lambda t, r: t.update({BIAS: t[BIAS].half()}),
    "integers": lambda t, r: t.update({BIAS: t[BIAS].long()}),
    "shape": lambda t, r: t.update({BIAS: t[BIAS][None]}),
    "missing": lambda t, r: t.pop(BIAS),
    "more": lambda t, r: t.update({"more": torch.zeros(2)}),
    "epoch 0": lambda t, r: r.update(epoch=0),
    "epoch -1": lambda t, r: r.update(epoch=-1),
    "epoch huge": lambda t, r: r.update(epoch=10**30),
    "accuracy -1": lambda t, r: r.update(accuracy=-1.0),
    "accuracy 101": lambda t, r: r.update(accuracy=101.0),
    "accuracy nan": lambda t, r: r.update(accuracy=float("nan")),
    "accuracy inf": lambda t, r: r.update(accuracy=float("inf")),
}
