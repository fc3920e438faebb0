"""Loss, learning rate, clipping and decay: as by hand, and as the steps of a training take them."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.model.config import Fusion
from frozen_vqa.pipeline.train.optimizer import build_optimizer, learning_rate
from tests.support.caches import Made
from tests.support.heads import with_scores
from tests.support.trainings import make_trainer, small


def test_learning_rate() -> None:
    config = small(lr=0.5, warmup=0.25)
    rates = [learning_rate(step, steps=20, config=config) for step in range(20)]

    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates[5] == 0.5  # the cosine begins at its top,
    assert rates[10] == pytest.approx(0.375)  # (1 + cos 60°) / 2
    assert all(a > b > 0 for a, b in pairwise(rates[5:]))  # falls all the way,
    assert rates[-1] < 0.01  # and ends near zero
    assert learning_rate(20, steps=20, config=config) == pytest.approx(0)
    assert learning_rate(23, steps=20, config=config) == pytest.approx(0)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_learning_rate_at_its_limits(warmup: float, steps: int) -> None:
    config = small(lr=0.5, warmup=warmup)
    rates = [learning_rate(step, steps=steps, config=config) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert (rates[-1] if warmup else rates[0]) == 0.5


def test_the_schedule_is_that_of_the_steps(scenes: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(scenes, batch_size=16, accumulate=3, group_by_image=False, epochs=2)
    rates: list[float] = []
    step = trainer.optimizer.step

    def spy() -> None:
        rates.extend({group["lr"] for group in trainer.optimizer.param_groups})
        step()

    monkeypatch.setattr(trainer.optimizer, "step", spy)
    for number in range(2):
        trainer.epoch(number)

    assert trainer.steps == trainer.counters.step == 6  # 8 batches an epoch, three to a step
    assert rates == [learning_rate(i, steps=6, config=trainer.config) for i in range(6)]


@pytest.mark.parametrize(
    ("fusion", "layers", "pooling", "epochs", "reached"),
    [
        ("co-attention", 1, "attention", 6, 0.1),
        ("co-attention", 1, "mean", 6, 0.1),
        ("co-attention", 3, "mean", 6, 0.1),
        ("co-attention", 3, "attention", 12, 0.01),  # after 6: 0.001 to 0.52, as the seed has it
        ("text-to-image", 1, "attention", 6, 0.1),
        ("concat", 1, "attention", 6, 1.0),
        ("question-only", 1, "attention", 6, 1.45),  # the questions alone allow no less than 2 ln 2
        ("image-only", 1, "attention", 6, 1.0),
    ],
)
def test_three_times_the_default_rate(
    fusion: Fusion, layers: int, pooling: str, epochs: int, reached: float, scenes: Made
) -> None:
    """Warm-up and clipping hold it from the first step: never far above the loss of a guess."""
    rate = 3 * TrainConfig().lr
    how: dict[str, Any] = {"fusion": fusion, "layers": layers, "text_self_attention": layers > 1}
    sizes: dict[str, Any] = {"width": 64, "heads": 4, "batch_size": 16, "epochs": epochs}
    trainer = make_trainer(scenes, lr=rate, pooling=pooling, **how, **sizes)
    losses = [trainer.epoch(number) for number in range(epochs)]
    assert max(losses) < 2
    assert losses[-1] < min(reached, losses[0])


def test_gradients_are_clipped(scenes: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(scenes, clip=0.001)
    norms: list[float] = []

    def spy() -> None:
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    monkeypatch.setattr(trainer.optimizer, "step", spy)
    trainer.epoch(0)
    assert norms
    assert norms == pytest.approx([0.001] * len(norms), rel=1e-3)


def test_only_matrices_decay(scenes: Made) -> None:
    trainer = make_trainer(scenes, weight_decay=0.1)
    model = with_scores(trainer.model)  # zeros would stay zeros
    optimizer = build_optimizer(model, trainer.config)

    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    matrices = {
        name for name, p in before.items() if p.ndim > 1 and "position_embedding" not in name
    }
    assert decayed == matrices
    assert {"text_projection.linear.weight", "head.weight"} <= matrices
    assert "head.bias" not in matrices


def test_steps_are_those_of_adamw_by_hand() -> None:
    """Source: Loshchilov and Hutter, Decoupled Weight Decay, 2019, algorithm 2."""
    config = small(lr=0.1, weight_decay=0.2)
    layer = torch.nn.Linear(3, 2).double()
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = build_optimizer(layer, config)
    generator = torch.Generator().manual_seed(0)
    moments = {name: [torch.zeros_like(x), torch.zeros_like(x)] for name, x in
               (("weight", weight), ("bias", bias))}  # fmt: skip
    for step in range(1, 6):
        for name, by_hand, decay in (("weight", weight, 0.2), ("bias", bias, 0.0)):
            gradient = torch.randn(by_hand.shape, generator=generator, dtype=torch.float64)
            getattr(layer, name).grad = gradient
            first, second = moments[name]
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.98).add_(0.02 * gradient**2)
            by_hand *= 1 - 0.1 * decay
            size = (second / (1 - 0.98**step)).sqrt() + 1e-8
            by_hand -= 0.1 * first / (1 - 0.9**step) / size
        optimizer.step()
        assert_close(layer.weight.detach(), weight, atol=1e-12, rtol=0)
        assert_close(layer.bias.detach(), bias, atol=1e-12, rtol=0)
