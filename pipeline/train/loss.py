"""The loss of a head: binary cross-entropy against soft targets."""

import torch
import torch.nn.functional as F


def soft_target_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, summed over answers and averaged over questions.

    Both are (questions, answers); targets range from 0 to 1.
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)
