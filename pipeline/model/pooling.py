"""From the tokens or patches of a question to one vector.

Axis names are those of `pipeline/model/attention.py`.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_vqa.pipeline.model.config import PoolingKind
from frozen_vqa.pipeline.model.patch_attention import PatchAttention
from frozen_vqa.pipeline.model.prefix_index import Pool, Text, hide


class Pooling(nn.Module):
    """An average over real tokens or over patches; equals `pool` of `reference.py`.

    The weights are equal ("mean"), or a softmax of a linear score of `features` each ("attention").
    """

    def __init__(self, kind: PoolingKind, features: int) -> None:
        super().__init__()
        # A bias would add the same to every score.
        self.score = nn.Linear(features, 1, bias=False) if kind == "attention" else None

    @property
    def score_vector(self) -> Tensor | None:
        """The vector that turns features into a score: (features,); None with equal weights.

        It is divided by the root of its size, as scores of attention are: a step of Adam moves
        every weight, and so a score by that many times as much (docs/heads.md).
        """
        if self.score is None:
            return None
        return self.score.weight.squeeze(0) * self.score.in_features**-0.5

    def over_text(self, text: Text) -> Pool:
        """Return the pooling of tokens, with scores of `text`.

        It takes features in the layout of `text` and returns (images, slots, width), zeros in an
        empty slot.
        """
        mask, vector = text.index.attention_mask, self.score_vector
        if vector is None:
            total = text.pool(mask.float())
            count = mask.sum(-1, keepdim=True).clamp(min=1)
            return lambda x: total(x) / count.to(x.dtype)
        scores = text.map(partial(F.linear, weight=vector[None])).per_token().x.squeeze(-1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return text.pool(hide(scores, mask).softmax(-1) * mask)

    def over_patches(self, patches: Tensor) -> Pool:
        """Return the pooling of patches, with scores of `patches`, (images, groups, patches,
        features).

        It takes (images, 1 or groups, patches, width) and returns (images, groups, width); or
        (images, 1, width) where neither patches nor scores depend on the question.
        """
        vector = self.score_vector
        if vector is None:
            return mean
        scores = F.linear(patches, vector[None]).squeeze(-1)
        at_least_single = torch.promote_types(scores.dtype, torch.float32)
        return partial(_weighted, scores.softmax(dim=-1, dtype=at_least_single))

    def over_attention(self, attention: PatchAttention) -> tuple[Tensor, Pool]:
        """Average the positive parts of `attention.sums()`, and score them for it.

        Returns the average, (images, slots, features), and the same pooling of other patches.
        """
        vector = self.score_vector
        if vector is None:
            return attention.mean_of_relu(), mean
        average, weights = attention.average_of_relu(vector)
        return average, partial(_weighted, weights)


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
