"""The text of a batch, with each distinct prefix computed once.

A frozen causal encoder gives a token the same hidden state wherever the same text stands before it,
so questions that begin alike share the states of their common prefixes. A head computes what
depends on

    the text alone           once per distinct prefix of the batch          (`PerPrefix`)
    the text and a picture   once per distinct prefix of the picture        (`PerPicture`)
    the whole question       for each of its tokens                         (`PerToken`)

Each class holds features in one of these layouts, and gathers them into the later ones.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

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
        """Add up the weights of equal prefixes within a question.

        (images, slots, tokens) -> (images, slots, picture prefixes).
        """
        if self.token_prefixes is None:
            return weights
        assert self.picture_prefixes is not None
        images, slots = self.token_prefixes.shape[:2]
        sums = weights.new_zeros((images, slots, self.picture_prefixes.shape[1]))
        return sums.scatter_add(2, self.token_prefixes, weights)


@dataclass(frozen=True)
class Text(ABC):
    """Features of the text of a batch, in the layout that the class names.

    Attributes:
        x: The features; the last axis is their size.
        index: Of the batch.
    """

    x: Tensor
    index: PrefixIndex

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function of each row of features."""
        return replace(self, x=function(self.x))

    @abstractmethod
    def per_token(self) -> "PerToken":
        """Return the features of each token of each question."""

    @abstractmethod
    def meet_patches(self, groups: int) -> "PerPicture | PerToken":
        """Return the features in the layout in which they meet patches.

        Args:
            groups: 1 while the questions of a picture share its patches, so that one result per
                prefix of the picture is enough; else the number of slots.
        """

    @abstractmethod
    def pool(self, weights: Tensor) -> Pool:
        """Return a weighted sum over the tokens of each question.

        Args:
            weights: (images, slots, tokens).

        Returns:
            Takes features in this layout and returns (images, slots, features).
        """


class PerToken(Text):
    """`x` is (images, slots, tokens, features); padding holds anything finite."""

    def per_token(self) -> "PerToken":
        """See `Text`."""
        return self

    def meet_patches(self, groups: int) -> "PerToken":
        """See `Text`."""
        return self

    def pool(self, weights: Tensor) -> Pool:
        """See `Text`."""
        return lambda x: (weights.to(x.dtype).unsqueeze(-2) @ x).squeeze(-2)


class PerPicture(Text):
    """`x` is (images, picture prefixes, features)."""

    def per_token(self) -> PerToken:
        """See `Text`."""
        if self.index.token_prefixes is None:
            return PerToken(self.x.unsqueeze(1), self.index)
        return PerToken(gather_rows(self.x.flatten(0, 1), self.index.token_entries), self.index)

    def meet_patches(self, groups: int) -> "PerPicture | PerToken":
        """See `Text`."""
        return self if groups == 1 else self.per_token()

    def pool(self, weights: Tensor) -> Pool:
        """See `Text`."""
        sums = self.index.sum_by_prefix(weights)
        return lambda x: sums.to(x.dtype) @ x


class PerPrefix(Text):
    """`x` is (prefixes, features)."""

    def per_picture(self) -> PerPicture:
        """Return the features of each picture's prefixes."""
        assert self.index.picture_prefixes is not None
        return PerPicture(gather_rows(self.x, self.index.picture_prefixes), self.index)

    def per_token(self) -> PerToken:
        """See `Text`."""
        if self.index.token_prefixes is None:
            return self.per_picture().per_token()
        return PerToken(gather_rows(self.x, self.index.token_rows), self.index)

    def meet_patches(self, groups: int) -> PerPicture | PerToken:
        """See `Text`."""
        return self.per_picture() if groups == 1 else self.per_token()

    def pool(self, weights: Tensor) -> Pool:
        """See `Text`."""
        pool = self.per_picture().pool(weights)
        return lambda x: pool(replace(self, x=x).per_picture().x)


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
