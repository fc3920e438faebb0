"""A state from elsewhere: what no trainer could have made is refused before torch sees it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from frozen_vqa.pipeline.model.config import Fusion
from frozen_vqa.pipeline.runs.state import Counters
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made
from tests.support.trainings import make_trainer

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def trained(scenes: Made) -> Trainer:
    """A trainer in the midst of its second epoch."""
    return go(make_trainer(scenes, ema=0.5, accumulate=2, text_self_attention=True), 2, 2)


def go(trainer: Trainer, epochs: int, batches: int) -> Trainer:
    """Train whole epochs but the last, and some batches of that one."""
    for number in range(epochs):
        plan = trainer.begin(number)
        last = number == epochs - 1
        for batch in trainer.train_reader.batches(plan[:batches] if last else plan):
            trainer.learn(batch)
    trainer.counters.epoch_seconds = 1.0
    return trainer


@pytest.mark.parametrize("fusion", get_args(Fusion))
def test_what_a_trainer_makes_another_takes(fusion: str, scenes: Made) -> None:
    """For every kind of head, so that none is refused for tensors that it does not have."""
    for changes in ({}, {"ema": 0.9, "merge": "concat", "layers": 1, "position_embedding": False}):
        for epochs, batches in ((1, 0), (1, 2), (2, 6)):
            trainer = go(make_trainer(scenes, fusion=fusion, **changes), epochs, batches)
            other = make_trainer(scenes, fusion=fusion, seed=5, **changes)
            other.restore(trainer.tensors(), trainer.counters)
            assert equal(other.tensors(), trainer.tensors())


def equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def _other_type(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float16 if tensor.is_floating_point() else torch.int64)


FORGERIES: dict[str, Callable[[Tensor], Tensor | None]] = {
    "missing": lambda tensor: None,
    "an axis more": lambda tensor: tensor[None],
    "a row more": lambda tensor: torch.cat([tensor.reshape(-1), tensor.reshape(-1)[:1]]),
    "empty": lambda tensor: tensor.reshape(-1)[:0],
    "another type": _other_type,
    "double": lambda tensor: tensor.double(),
    "integers": lambda tensor: tensor.int(),
    "complex": lambda tensor: tensor.to(torch.complex64),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_every_tensor_has_its_name_shape_and_type(
    forgery: str, trained: Trainer, scenes: Made
) -> None:
    real = trained.tensors()
    assert len(real) > 100
    other = make_trainer(scenes, ema=0.5, accumulate=2, text_self_attention=True)
    before = {name: tensor.clone() for name, tensor in other.tensors().items()}
    for name, tensor in real.items():
        forged = FORGERIES[forgery](tensor)
        tensors = {n: t for n, t in {**real, name: forged}.items() if t is not None}
        with pytest.raises(ValueError, match=rf"^{name} is "):
            other.restore(tensors, trained.counters)
    with pytest.raises(ValueError, match="'more' is not known"):
        other.restore({**real, "more": torch.zeros(1)}, trained.counters)
    assert equal(other.tensors(), before)


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("exp_avg_sq", lambda tensor: tensor - 1, "holds a square below 0"),
        ("step", lambda tensor: tensor + 1, "is not 4, the steps of the training"),
        ("step", lambda tensor: -tensor, "is not 4, the steps of the training"),
    ],
)
def test_moments_are_those_of_the_steps(
    key: str, change: Callable[[Tensor], Tensor], reason: str, trained: Trainer, scenes: Made
) -> None:
    real = trained.tensors()
    other = make_trainer(scenes, ema=0.5, accumulate=2, text_self_attention=True)
    for name in [name for name in real if name.endswith(f".{key}")]:
        with pytest.raises(ValueError, match=f"^{name} {reason}"):
            other.restore({**real, name: change(real[name])}, trained.counters)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epoch": 3}, "it is in epoch 4 of 3"),
        ({"epoch": 10**9}, "it is in epoch 1000000001 of 3"),
        ({"batch": 1}, "it is at batch 1 of 6, which ends no step"),
        ({"batch": 7}, "it is at batch 7 of 6, which ends no step"),
        ({"batch": 10**9}, "it is at batch 1000000000 of 6, which ends no step"),
        ({"step": 0}, "is not known"),
        ({"step": 3}, "is not 3, the steps"),
        ({"epoch": 0}, "it is at step 4, and about 1 is possible"),
        ({"epoch": 2, "batch": 6}, "it is at step 4, and about 9 is possible"),
    ],
)
def test_a_position_that_the_training_cannot_have(
    changes: dict[str, Any], reason: str, trained: Trainer, scenes: Made
) -> None:
    other = make_trainer(scenes, ema=0.5, accumulate=2, text_self_attention=True)
    counters: Counters = replace(trained.counters, **changes)
    with pytest.raises(ValueError, match=reason):
        other.restore(trained.tensors(), counters)
