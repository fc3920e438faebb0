"""AdamW, the learning-rate schedule, and the average of the weights."""

import copy
import math

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices alone: norms, biases, positions and marks keep their size."""
    named = list(model.named_parameters())
    kept = ("position_embedding", "picture_marks")
    matrices = [p for name, p in named if p.ndim > 1 and not any(one in name for one in kept)]
    rest = [p for name, p in named if p.ndim <= 1 or any(one in name for one in kept)]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)


def learning_rate(step: int, *, steps: int, config: TrainConfig) -> float:
    """Return the rate of one step: linear warm-up to `config.lr`, then a cosine to zero."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class WeightAverage:
    """An exponential moving average of a head's weights: steadier than those of any one step.

    It begins with the head before its first step. Its own `model` holds the average.
    """

    def __init__(self, model: VqaModel, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay  # share of the average that a late step keeps, 0 to below 1

    def update(self, model: VqaModel, step: int) -> None:
        """Move towards the weights after a step, counted from 1.

        Step n keeps min(decay, (1 + n) / (10 + n)) of the average, so that it soon forgets the
        first weights, which are random. Source: `num_updates` of TensorFlow's
        `tf.train.ExponentialMovingAverage`.
        """
        lerp = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        lerp(list(self.model.parameters()), list(model.parameters()), step)
