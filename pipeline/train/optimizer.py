"""How a head is optimised: the loss, AdamW, and the learning rate over time."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from frozen_vqa.pipeline.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices alone: norms, biases and places keep their size."""
    matrices = [
        p for name, p in model.named_parameters() if p.ndim > 1 and "position_embedding" not in name
    ]
    rest = [
        p for name, p in model.named_parameters() if p.ndim <= 1 or "position_embedding" in name
    ]
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


def soft_target_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, summed over answers and averaged over questions."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)
