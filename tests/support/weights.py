"""Weights that tell from which epoch they are, and what a run holds of them."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.pipeline.runs import weights as module
from frozen_vqa.pipeline.runs.folder import PREVIOUS
from frozen_vqa.pipeline.runs.weights import Weights, load_weights


def made(epoch: int) -> Weights:
    """Weights that tell from which epoch they are, of several types and shapes."""
    tensors = {
        "places": torch.arange(12, dtype=torch.float32).reshape(3, 4) + 100 * epoch,
        "half": torch.full((5,), epoch, dtype=torch.float16),
        "brain": torch.full((2, 1), epoch, dtype=torch.bfloat16),
        "scale": torch.tensor(float(epoch)),
        "steps": torch.tensor([epoch, -1]),
        "none": torch.zeros(0, 2),
    }
    return Weights(tensors, epoch, min(12.5 * epoch, 100.0), {"answers.json": "00ff", "größe": "1"})


def same(found: Weights, expected: Weights) -> bool:
    def bits(tensors: Any) -> dict[str, tuple]:
        return {name: (t.dtype, t.shape, t.tolist()) for name, t in tensors.items()}

    return replace(found, tensors=bits(found.tensors)) == replace(
        expected, tensors=bits(expected.tensors)
    )


def epochs(run: Path) -> tuple[int, ...]:
    """Return from which epochs the weights are, the current ones first, each checked."""
    found = [load_weights(run)]
    if (run / PREVIOUS).exists():
        found.append(module.read_weights(run / PREVIOUS))
    assert all(same(weights, made(weights.epoch)) for weights in found)
    return tuple(weights.epoch for weights in found)


def names(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", link)
