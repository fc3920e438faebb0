"""From the words or patches of a question to one vector.

Axis names are those of `pipeline/model/attention.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_vqa.pipeline.model.patch_attention import Looked
from frozen_vqa.pipeline.model.prefix_index import Words

PoolingKind = Literal["mean", "attention"]
POOLINGS: tuple[PoolingKind, ...] = get_args(PoolingKind)
Pool = Callable[[Tensor], Tensor]
"""Averages over the length of a tensor; for each question the weights add up to one."""


class Pooling(nn.Module):
    """An average over real words or over patches, with equal or with learned weights.

    Args:
        kind: "mean" or "attention": softmax over a linear score of each word or patch.
        features: Of what the score is computed from.
    """

    def __init__(self, kind: PoolingKind, features: int) -> None:
        super().__init__()
        # A bias would add the same to every score.
        self.score = nn.Linear(features, 1, bias=False) if kind == "attention" else None

    @property
    def by(self) -> Tensor | None:
        """By what features are multiplied for their score: (features,); None with equal weights.

        Divided by the root of their number, as scores of attention are: a step of Adam moves every
        weight, and so a score by that many times as much (docs/heads.md).
        """
        if self.score is None:
            return None
        return self.score.weight.squeeze(0) * self.score.in_features**-0.5

    def over_words(self, by: Tensor, places: Words) -> Pool:
        """Return what averages words.

        Args:
            by: (..., features) of the words, at any of the places of `prefix_index.py`.
            places: Of the words.

        Returns:
            Takes words at any place and returns (images, slots, width); zeros in an empty slot.
        """
        scores = self._scores(by)
        return places.mean if scores is None else places.average(scores)

    def over_patches(self, by: Tensor) -> Pool:
        """Return what averages patches.

        Args:
            by: (images, groups, patches, features).

        Returns:
            Takes (images, 1 or groups, patches, width) and returns (images, groups, width); or
            (images, 1, width) where patches and weights are those of the picture.
        """
        scores = self._scores(by)
        if scores is None:
            return mean
        at_least_single = torch.promote_types(scores.dtype, torch.float32)
        return partial(_weighted, scores.squeeze(-1).softmax(dim=-1, dtype=at_least_single))

    def over_looked(self, looked: Looked) -> tuple[Tensor, Pool]:
        """Average the positive parts of `looked.sums()`, by which the weights go too.

        Returns:
            The average, (images, slots, features), and what averages patches in the same way.
        """
        by = self.by
        if by is None:
            return looked.mean_of_relu(), mean
        average, weights = looked.average_of_relu(by)
        return average, partial(_weighted, weights)

    def _scores(self, x: Tensor) -> Tensor | None:
        """(..., features) -> (..., 1), or None with equal weights."""
        by = self.by
        return None if by is None else F.linear(x, by[None])


def mean(x: Tensor) -> Tensor:
    """Average over the last axis but one: (..., length, width) -> (..., width).

    As a sum, whose gradient is a view: that of a mean is as large as `x`.
    """
    return x.sum(-2) / x.shape[-2]


def _weighted(weights: Tensor, x: Tensor) -> Tensor:
    weights = weights.to(x.dtype)
    if x.shape[1] == 1:  # patches of the picture, in one product for all its questions
        return weights @ x.squeeze(1)
    return (weights.unsqueeze(-2) @ x).squeeze(-2)
