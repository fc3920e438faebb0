"""The text of a batch, with each distinct prefix computed once.

A frozen causal encoder gives a token the same hidden state wherever the same text stands before it,
so questions that begin alike share the states of their common prefixes. A head computes what
depends on

    the text alone           once per distinct prefix of the batch
    the text and a picture   once per distinct prefix of the picture
    the whole question       for each of its tokens

`Text` says which of these layouts its features have, and gathers them into the later ones. In
`reference.py` every token of every question has features of its own; the results are equal.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Pool = Callable[[Tensor], Tensor]
"""Averages a tensor over its tokens or patches; for each question the weights add up to one."""


@dataclass(frozen=True)
class PrefixIndex:
    """Maps the tokens of a batch to its distinct prefixes.

    Attributes:
        attention_mask: (images, slots, tokens), True = real token; a slot without any is empty.
        picture_prefixes: (images, picture prefixes) rows among the prefixes of the batch: the
            distinct ones of each picture's questions, then padding. None if features come per
            token from the start.
        token_prefixes: (images, slots, tokens) which of its picture's prefixes ends at each token;
            anything where there is padding. None where each picture has one slot: its prefixes are
            the tokens of that question.
    """

    attention_mask: Tensor
    picture_prefixes: Tensor | None = None
    token_prefixes: Tensor | None = None

    @cached_property
    def token_rows(self) -> Tensor:
        """`token_prefixes` as rows among the prefixes of the batch."""
        assert self.picture_prefixes is not None
        return self.picture_prefixes.flatten()[self.token_entries]

    @cached_property
    def token_entries(self) -> Tensor:
        """`token_prefixes` as indices into the flattened `picture_prefixes`."""
        assert self.picture_prefixes is not None
        assert self.token_prefixes is not None
        images, prefixes = self.picture_prefixes.shape
        first = torch.arange(images, device=self.token_prefixes.device) * prefixes
        return self.token_prefixes + first[:, None, None]

    def sum_by_prefix(self, weights: Tensor) -> Tensor:
        """Add up weights of equal prefixes: (images, slots, tokens) -> (.., picture prefixes)."""
        if self.token_prefixes is None:
            return weights
        assert self.picture_prefixes is not None
        images, slots = self.token_prefixes.shape[:2]
        sums = weights.new_zeros((images, slots, self.picture_prefixes.shape[1]))
        return sums.scatter_add(2, self.token_prefixes, weights)


@dataclass(frozen=True)
class Text:
    """Features of the text of a batch, in one of three layouts.

    "prefix" is (prefixes, features), "picture" is (images, picture prefixes, features), and "token"
    is (images, slots, tokens, features), where padding holds anything finite.
    """

    x: Tensor
    layout: Literal["prefix", "picture", "token"]
    index: PrefixIndex

    def map(self, function: Callable[[Tensor], Tensor]) -> "Text":
        """Apply a function of each row of features."""
        return replace(self, x=function(self.x))

    def per_picture(self) -> "Text":
        """Gather the features of each picture's prefixes; those of tokens stay as they are."""
        if self.layout != "prefix":
            return self
        assert self.index.picture_prefixes is not None
        return Text(gather_rows(self.x, self.index.picture_prefixes), "picture", self.index)

    def per_token(self) -> "Text":
        """Gather the features of each token of each question."""
        if self.layout == "token":
            return self
        if self.index.token_prefixes is None:
            return Text(self.per_picture().x.unsqueeze(1), "token", self.index)
        rows = self.index.token_rows if self.layout == "prefix" else self.index.token_entries
        return Text(gather_rows(self.x.flatten(0, -2), rows), "token", self.index)

    def meet_patches(self, groups: int) -> "Text":
        """Return the features in the layout in which they meet patches.

        `groups` is 1 while the questions of a picture share its patches, so that one result per
        prefix of the picture is enough; else it is the number of slots.
        """
        return self.per_picture() if groups == 1 else self.per_token()

    def pool(self, weights: Tensor) -> Pool:
        """Return a sum over the tokens of each question, weighted by (images, slots, tokens).

        It takes features in this layout and returns (images, slots, features). Equals the weighted
        sum of `reference.pool`: equal prefixes of a question have equal features.
        """
        if self.layout == "token":
            return lambda x: (weights.to(x.dtype).unsqueeze(-2) @ x).squeeze(-2)
        sums = self.index.sum_by_prefix(weights)
        return lambda x: sums.to(x.dtype) @ replace(self, x=x).per_picture().x


def gather_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Return the rows asked for: (n, features), (...) -> (..., features).

    Both functions below do the same. On a CPU the gradient of `index_select` takes half the time.
    On a GPU it adds rows in any order, and two trainings would not end in the same weights.
    """
    if x.device.type != "cpu":
        return F.embedding(rows, x)
    return x.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def hide(scores: Tensor, mask: Tensor) -> Tensor:
    """Return scores that a softmax turns to zero where `mask` is False, unless all are hidden.

    It adds half of the lowest finite number, not -inf: an empty slot must not turn into NaN. On a
    CPU that takes a quarter of the time of `masked_fill`, and the gradient passes unchanged.
    """
    lowest = torch.finfo(scores.dtype).min / 2
    return scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, lowest)
