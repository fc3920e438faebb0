"""Multi-head cross-attention between the words of many questions and the patches of one picture.

Axis legend, used in every comment of the trainable half:

    images   pictures in the batch          slots   questions of one picture (padded)
    tokens   words of one question (padded) patches patch embeddings of one picture
    groups   1 where all questions of a picture still share its patches, else `slots`
    heads, head_dim, width = heads * head_dim

The arithmetic is that of `torch.nn.MultiheadAttention`; only the order of the work differs. Keys
and values of a picture are made once for all its questions, and where words are attended to, the
output projection is folded into the values (there are far fewer words than patches).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Projections of one direction of cross-attention; see the two functions for the directions.

    Args:
        width: Size of queries, keys, values and output.
        heads: Number of heads; divides `width`.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        # A bias of the keys would add the same to every score of a query, which softmax ignores.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """Split the last axis: (..., width) -> (..., heads, head_dim)."""
        return x.unflatten(-1, (self.heads, -1))

    def words_to_patches(self, words: Tensor, patches: Tensor) -> Tensor:
        """Let every word of every question look at the patches of its picture.

        Args:
            words: (images, slots, tokens, width), the queries. Padded words may hold anything
                finite; what they attend to is for the caller to leave out.
            patches: (images, groups, patches, width), keys and values; none is padding.

        Returns:
            (images, slots, tokens, width).
        """
        slots, groups = words.shape[1], patches.shape[1]
        # A group's queries are all words that share its patches: one call, no copied keys.
        queries = words.reshape(words.shape[0] * groups, -1, words.shape[-1])
        patches = patches.flatten(0, 1)
        q, k, v = (
            self.split(project(x)).transpose(1, 2)  # (images * groups, heads, length, head_dim)
            for project, x in ((self.query, queries), (self.key, patches), (self.value, patches))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.output(attended).reshape(words.shape[0], slots, -1, words.shape[-1])

    def patches_to_words(
        self, patches: Tensor, words: Tensor, attention_mask: Tensor, then: nn.Linear
    ) -> Tensor:
        """Let every patch look at the words of each question, and apply `then` to the result.

        Args:
            patches: (images, groups, patches, width), the queries.
            words: (images, slots, tokens, width), keys and values.
            attention_mask: (images, slots, tokens), True = real token. Where a slot has no real
                token the result is finite and means nothing.
            then: The linear map that follows the attention. It is applied to the values before
                they are averaged, which is the same sum in another order and spares two matrix
                products for every patch of every question.

        Returns:
            (images, slots, patches, then.out_features).
        """
        images, slots, _, width = words.shape
        groups, count = patches.shape[1], patches.shape[2]
        q = self.split(self.query(patches)) * (width // self.heads) ** -0.5
        k = self.split(self.key(words)).unflatten(1, (groups, -1))
        # (images, groups, slots / groups, patches, tokens, heads)
        scores = torch.einsum("igphd,igsthd->igspth", q, k).flatten(1, 2)
        hidden = ~attention_mask[:, :, None, :, None]
        # The lowest finite number, not -inf: an empty slot must not turn into NaN.
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        at_least_single = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.softmax(dim=-2, dtype=at_least_single).to(q.dtype)
        folded = self._fold(then)  # (heads, head_dim, out)
        v = torch.einsum("isthd,hdo->istho", self.split(self.value(words)), folded)
        mixed = weights.reshape(images * slots, count, -1) @ v.reshape(
            images * slots, -1, v.shape[-1]
        )
        bias = F.linear(self.output.bias, then.weight, then.bias)
        return mixed.unflatten(0, (images, slots)) + bias

    def _fold(self, then: nn.Linear) -> Tensor:
        """Return `then.weight @ output.weight`, split by head: (heads, head_dim, out)."""
        return self.split(then.weight @ self.output.weight).permute(1, 2, 0)


def masked_mean(x: Tensor, attention_mask: Tensor) -> Tensor:
    """Average over real tokens: (..., tokens, width), (..., tokens) -> (..., width).

    A row without a real token (an empty slot) averages to zero.
    """
    weights = attention_mask.unsqueeze(-1).to(x.dtype)
    return (x * weights).sum(-2) / weights.sum(-2).clamp(min=1)
