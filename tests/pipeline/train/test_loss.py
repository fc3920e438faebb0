"""The loss, against its formula written out."""

import math

import pytest
import torch

from frozen_vqa.pipeline.train.loss import soft_target_loss


def test_the_loss_is_summed_over_answers_and_averaged_over_questions() -> None:
    logits, targets = (
        torch.tensor([[0.0, 2.0], [-1.0, 0.0], [3.0, 0.0]]),
        torch.tensor([[0.3, 1.0], [0.0, 0.0], [1.0, 0.6]]),
    )
    by_hand = sum(
        -t * math.log(1 / (1 + math.exp(-x))) - (1 - t) * math.log(1 - 1 / (1 + math.exp(-x)))
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
        for x, t in zip(row, target, strict=True)
    )
    assert soft_target_loss(logits, targets).item() == pytest.approx(by_hand / 3, abs=1e-6)
