"""Multi-head cross-attention between the words of many questions and the patches of one picture.

Axis legend, used in every comment of the trainable half:

    images   pictures in the batch          slots   questions of one picture (padded)
    tokens   words of one question (padded) patches patch embeddings of one picture
    groups   1 where all questions of a picture still share its patches, else `slots`
    rows     distinct words: each prefix of the batch once, wherever it occurs
    heads, head_dim, width = heads * head_dim

The arithmetic is that of `torch.nn.MultiheadAttention`; only the order of the work differs. What a
picture needs is made once for all its questions, what a word needs once for all questions that
begin alike (`spread` then brings it to its places), and the linear map that follows the attention
is folded into the output projection.
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

    def words_to_patches(
        self, words: Tensor, patches: Tensor, then: nn.Linear, paths: Tensor | None = None
    ) -> Tensor:
        """Let every word of every question look at the patches of its picture, and apply `then`.

        Args:
            words: (images, slots, tokens, width), or (rows, width) with `paths`: the queries.
                Padded words may hold anything finite; what they attend to is for the caller to
                leave out.
            patches: (images, groups, patches, width), keys and values; none is padding.
            then: The linear map that follows.
            paths: (images, slots, tokens) rows of `words`.

        Returns:
            (images, slots, tokens, then.out_features).
        """
        queries = spread(self.query(words), paths)
        images, slots, tokens, width = queries.shape
        # A group's queries are all words that share its patches: one call, no copied keys.
        queries = queries.reshape(images * patches.shape[1], -1, width)
        patches = patches.flatten(0, 1)
        q, k, v = (
            self.split(x).transpose(1, 2)  # (images * groups, heads, length, head_dim)
            for x in (queries, self.key(patches), self.value(patches))
        )
        attended = _attend(q, k, v).transpose(1, 2)
        attended = attended.reshape(images, slots, tokens, width)
        return F.linear(attended, then.weight @ self.output.weight, self._bias(then))

    def patches_to_words(
        self,
        patches: Tensor,
        words: Tensor,
        attention_mask: Tensor,
        then: nn.Linear,
        plus: Tensor,
        paths: Tensor | None = None,
    ) -> Tensor:
        """Let every patch look at the words of each question, and apply `then` to the result.

        Args:
            patches: (images, groups, patches, width), the queries.
            words: (images, slots, tokens, width), or (rows, width) with `paths`: keys and values.
            attention_mask: (images, slots, tokens), True = real token. Where a slot has no real
                token the result is finite and means nothing.
            then: The linear map that follows. It is applied to the values before they are
                averaged, which is the same sum in another order and spares two matrix products
                for every patch of every question.
            plus: (images, groups, patches, then.out_features), added to the result.
            paths: (images, slots, tokens) rows of `words`.

        Returns:
            (images, slots, patches, then.out_features).
        """
        images, slots, tokens = attention_mask.shape
        groups, count = patches.shape[1], patches.shape[2]
        q = self.split(self.query(patches)) * (patches.shape[-1] // self.heads) ** -0.5
        k = self.split(spread(self.key(words), paths)).unflatten(1, (groups, -1))
        # Tokens before slots and patches: a softmax over an axis with a long one behind it runs
        # three times faster on a CPU than one over a short last axis.
        k = k.permute(0, 1, 4, 3, 2, 5).flatten(3, 4)  # (images, groups, heads, tokens * .., dim)
        scores = (k @ q.permute(0, 1, 3, 4, 2)).unflatten(3, (tokens, -1))
        hidden = ~attention_mask.unflatten(1, (groups, -1)).transpose(2, 3)[:, :, None, :, :, None]
        # The lowest finite number, not -inf: an empty slot must not turn into NaN.
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        at_least_single = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.softmax(dim=3, dtype=at_least_single).to(scores.dtype)
        weights = weights.permute(0, 1, 4, 2, 3, 5).reshape(images * slots, -1, count)
        # (images * slots, heads * tokens, out)
        v = self._folded_values(words, then, paths).reshape(images * slots, weights.shape[1], -1)
        mixed = weights.transpose(1, 2) @ v
        return mixed.unflatten(0, (images, slots)) + (plus + self._bias(then))

    def _folded_values(self, words: Tensor, then: nn.Linear, paths: Tensor | None) -> Tensor:
        """Return what each head adds to `then`'s result for each word it looks at."""
        folded = self.split(then.weight @ self.output.weight).permute(1, 2, 0)
        values = self.split(self.value(words))
        if paths is None:
            return torch.einsum("isthd,hdo->ishto", values, folded)
        by_head = torch.einsum("rhd,hdo->hro", values, folded)
        first = torch.arange(self.heads, device=paths.device)[:, None] * len(words)
        return spread(by_head.flatten(0, 1), paths[:, :, None] + first)

    def _bias(self, then: nn.Linear) -> Tensor:
        return F.linear(self.output.bias, then.weight, then.bias)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(head_dim)) v; all (..., length, head_dim)."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    # On a CPU the fused kernel is no faster in float32, and its backward pass in bfloat16 takes
    # five times as long as this.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    at_least_single = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(dim=-1, dtype=at_least_single).to(v.dtype) @ v


def lowered(x: Tensor) -> Tensor:
    """Return `x` as autocast would multiply it, once for all the matrices that it goes through."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def spread(rows: Tensor, paths: Tensor | None) -> Tensor:
    """Bring what was made once per distinct word to every place where that word occurs.

    Args:
        rows: (rows, width), or what lies at its places already.
        paths: (images, slots, tokens, or any other axes) rows, or None.

    Returns:
        (*paths.shape, width), or `rows` as they are.
    """
    return rows if paths is None else F.embedding(paths, rows)


def mean(x: Tensor) -> Tensor:
    """Average over the last axis but one: (..., length, width) -> (..., width).

    As a matrix product, because a CPU's own mean of bfloat16 makes float32 of all numbers first.
    """
    ones = x.new_ones((*x.shape[:-2], 1, x.shape[-2]))
    return (ones @ x).squeeze(-2) / x.shape[-2]


def masked_mean(x: Tensor, attention_mask: Tensor) -> Tensor:
    """Average over real tokens: (..., tokens, width), (..., tokens) -> (..., width).

    A row without a real token (an empty slot) averages to zero.
    """
    weights = attention_mask.to(x.dtype).unsqueeze(-2)  # (..., 1, tokens)
    return (weights @ x).squeeze(-2) / weights.sum(-1).clamp(min=1)
