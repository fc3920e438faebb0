"""Multi-head attention among the words of many questions and the patches of one picture.

Axis legend, used in every comment of the trainable half:

    images   pictures in the batch          slots   questions of one picture (padded)
    tokens   words of one question (padded) patches patch embeddings of one picture
    groups   1 where all questions of a picture still share its patches, else `slots`
    rows     distinct words of the batch    words   distinct words of one picture (padded)
    heads, head_dim, width = heads * head_dim

The arithmetic is that of `torch.nn.MultiheadAttention`; only the order of the work differs. What a
picture needs is made once for all its questions, what a word needs once for all questions that
begin alike (`prefix_index.py`), and the linear map that follows the attention is folded into the
output projection.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_vqa.pipeline.model.patch_attention import Looked
from frozen_vqa.pipeline.model.prefix_index import Words, hide


class Attention(nn.Module):
    """Projections of one direction of attention; see the three functions for the directions.

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
        self, words: Tensor, patches: Tensor, then: nn.Linear, places: Words
    ) -> Tensor:
        """Let every word look at the patches of its picture, and apply `then`.

        Args:
            words: The queries, at any of the places of `prefix_index.py`. Padded words may hold
                anything finite; what they attend to is for the caller to leave out.
            patches: (images, groups, patches, width), keys and values; none is padding.
            then: The linear map that follows.
            places: Of the words.

        Returns:
            (images, words, then.out_features) if all questions of a picture still share its
            patches and words, else (images, slots, tokens, then.out_features).
        """
        images, groups = patches.shape[:2]
        queries = self.query(words)
        # A group's queries are all words that share its patches: one call, no copied keys.
        queries = places.at_images(queries) if groups == 1 else places.at_slots(queries)
        patches = patches.flatten(0, 1)
        q, k, v = (
            self.split(x).transpose(1, 2)  # (images * groups, heads, length, head_dim)
            for x in (
                queries.reshape(images * groups, -1, queries.shape[-1]),
                self.key(patches),
                self.value(patches),
            )
        )
        attended = _attend(q, k, v).transpose(1, 2).reshape(queries.shape)
        return F.linear(attended, then.weight @ self.output.weight, self._bias(then))

    def words_to_words(self, words: Tensor, places: Words) -> Tensor:
        """Let every word look at all words of its question, in both directions.

        Args:
            words: At any of the places of `prefix_index.py`. Where a slot has no real token the
                result is finite and means nothing.
            places: Of the words.

        Returns:
            (images, slots, tokens, width).
        """
        q, k, v = (
            self.split(places.at_slots(x)).transpose(2, 3)  # (images, slots, heads, tokens, ..)
            for x in (self.query(words), self.key(words), self.value(words))
        )
        attended = _attend(q, k, v, places.attention_mask[:, :, None, None])
        return self.output(attended.transpose(2, 3).flatten(-2))

    def patches_to_words(
        self,
        patches: Tensor,
        words: Tensor,
        then: nn.Linear,
        plus: Tensor | None,
        places: Words,
    ) -> Looked:
        """Let every patch look at the words of each question, and apply `then` to the result.

        Args:
            patches: (images, groups, patches, width), the queries.
            words: Keys and values, at any of the places of `prefix_index.py`. Where a slot has
                no real token the result is finite and means nothing.
            then: The linear map that follows. It is applied to the values before they are
                averaged, which is the same sum in another order and spares two matrix products
                for every patch of every question.
            plus: (images, groups, patches, then.out_features), added to the result, or None.
            places: Of the words.

        Returns:
            The sums to be made, (images, slots, patches, then.out_features).
        """
        scores = self._scores(patches, words, places)
        scores = hide(scores, places.attention_mask[..., None])
        # A softmax over an axis with a long one behind it runs three times faster on a CPU than
        # one over a short last axis.
        weights = _softmax(scores, 2)
        weights = weights.reshape(*scores.shape[:2], -1, patches.shape[2])  # .., tokens * heads, ..
        values = places.at_slots(self._folded_values(words, then)).reshape(*weights.shape[:3], -1)
        bias = self._bias(then)
        plus = bias.expand(1, 1, 1, -1) if plus is None else plus + bias
        return Looked(weights, values, plus)

    def _scores(self, patches: Tensor, words: Tensor, places: Words) -> Tensor:
        """Return what every patch thinks of every word: (images, slots, tokens, heads * patches).

        A word of a picture gets its scores once for all questions that it occurs in.
        """
        images, groups = patches.shape[:2]
        q = self.split(self.query(patches)) * (patches.shape[-1] // self.heads) ** -0.5
        k = self.key(words)
        k = places.at_images(k) if groups == 1 else places.at_slots(k)
        by_group = self.split(k).reshape(images * groups, -1, *q.shape[-2:])
        q = q.flatten(0, 1).permute(0, 2, 3, 1)  # (images * groups, heads, head_dim, patches)
        scores = by_group.transpose(1, 2) @ q  # (images * groups, heads, words, patches)
        return places.at_slots(scores.transpose(1, 2).reshape(*k.shape[:-1], -1))

    def _folded_values(self, words: Tensor, then: nn.Linear) -> Tensor:
        """Return what each head adds to `then`'s result for each word it looks at.

        (..., width) -> (..., heads * then.out_features).
        """
        folded = self.split(then.weight @ self.output.weight).permute(1, 2, 0)
        values = self.split(self.value(words))
        return torch.einsum("...hd,hdo->...ho", values, folded).flatten(-2)

    def _bias(self, then: nn.Linear) -> Tensor:
        return F.linear(self.output.bias, then.weight, then.bias)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(head_dim)) v; all (..., length, head_dim), True in `mask` = seen."""
    if q.device.type != "cpu":
        # A row of -inf alone would be NaN, so the mask is of numbers.
        bias = hide(torch.zeros_like(mask, dtype=q.dtype), mask) if mask is not None else None
        return F.scaled_dot_product_attention(q, k, v, bias)
    # On a CPU the fused kernel is no faster in float32, and its backward pass in bfloat16 takes
    # five times as long as this.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = hide(scores, mask)
    return _softmax(scores, -1) @ v


def _softmax(scores: Tensor, dim: int) -> Tensor:
    """Return the softmax in the type of the scores; sums are of at least single precision."""
    # On a GPU autocast would write it in single precision, for a product that rounds it again.
    with torch.autocast(scores.device.type, enabled=False):
        return scores.softmax(dim)


def lowered(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return `x` as autocast would multiply it, once for all the matrices that it goes through.

    Args:
        x: Any type. It is converted in one step: an array of single precision in between would be
            the largest of a training.
        dtype: What it becomes without autocast; None is its own.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return x.to(dtype or x.dtype)
