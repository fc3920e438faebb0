"""The loss of a head: binary cross-entropy against soft targets, or cross-entropy over choices."""

import torch
import torch.nn.functional as F


def soft_target_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, summed over answers and averaged over questions.

    Both are (questions, answers); targets range from 0 to 1.
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)


def choice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the choices of each question, averaged over questions.

    Both are (questions, choices); the targets of a question add up to 1, and where it has fewer
    choices they are 0 and its logits very low.
    """
    return F.cross_entropy(logits, targets)
