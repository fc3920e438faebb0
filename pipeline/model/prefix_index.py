"""Where the words of a batch lie, and how what is made once for a word comes to its places.

A frozen causal encoder gives words the same state wherever the same text stands before them, so
questions share the words with which they begin. What a head makes of a word alone is made once per
distinct prefix of the batch; what it makes of a word and a picture once per distinct prefix of the
picture's questions; only what depends on a whole question is made for each of its words. A tensor
tells by its axes how far it has come:

    (rows, width)                    one row a distinct prefix of the batch
    (images, words, width)           the distinct prefixes of each picture's questions (padded)
    (images, slots, tokens, width)   every word of every question (padded)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Words:
    """Places of the words of a batch.

    Attributes:
        attention_mask: (images, slots, tokens), True = real token; a slot without any is empty.
        rows: (images, words) rows of the distinct prefixes; None where every word comes at its
            own place already.
        paths: (images, slots, tokens) which of its picture's words stands there, any where there
            is padding. None where each picture has one slot: its words are that question's tokens.
    """

    attention_mask: Tensor
    rows: Tensor | None = None
    paths: Tensor | None = None

    def at_images(self, x: Tensor) -> Tensor:
        """(rows, width) -> (images, words, width); what has come further stays as it is."""
        if x.dim() > 2:
            return x
        assert self.rows is not None
        return gathered(x, self.rows)

    def at_slots(self, x: Tensor) -> Tensor:
        """Any -> (images, slots, tokens, width)."""
        if x.dim() == 4:
            return x
        if self.paths is None:
            return self.at_images(x).unsqueeze(1)
        return gathered(x.flatten(0, -2), self._row_paths if x.dim() == 2 else self._paths)

    def mean(self, x: Tensor) -> Tensor:
        """Average over the real tokens of each question: any -> (images, slots, width).

        An empty slot averages to zero.
        """
        if x.dim() < 4 and self.paths is not None:
            counts = self._counts.to(x.dtype)  # (images, slots, words)
            return (counts @ self.at_images(x)) / counts.sum(-1, keepdim=True).clamp(min=1)
        return masked_mean(self.at_slots(x), self.attention_mask)

    def average(self, scores: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what averages over the real tokens of each question by the softmax of `scores`.

        Args:
            scores: At any place, with one number a word.

        Returns:
            Takes words at any place and returns (images, slots, width), zeros in an empty slot.
        """
        scores = self.at_slots(scores).squeeze(-1)  # (images, slots, tokens)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        weights = hide(scores, self.attention_mask).softmax(-1) * self.attention_mask
        by_word = None if self.paths is None else self._by_word(weights)

        def averaged(x: Tensor) -> Tensor:
            if x.dim() < 4 and by_word is not None:
                return by_word.to(x.dtype) @ self.at_images(x)
            return (weights.to(x.dtype).unsqueeze(-2) @ self.at_slots(x)).squeeze(-2)

        return averaged

    @cached_property
    def _paths(self) -> Tensor:
        """`paths` as places in (images * words)."""
        assert self.rows is not None
        assert self.paths is not None
        images, words = self.rows.shape
        first = torch.arange(images, device=self.paths.device) * words
        return self.paths + first[:, None, None]

    @cached_property
    def _row_paths(self) -> Tensor:
        """`paths` as rows of the distinct prefixes."""
        assert self.rows is not None
        return self.rows.flatten()[self._paths]

    @cached_property
    def _counts(self) -> Tensor:
        """(images, slots, words) how often a question has a word."""
        return self._by_word(self.attention_mask.float())

    def _by_word(self, x: Tensor) -> Tensor:
        """Sum over the places of each word: (images, slots, tokens) -> (images, slots, words)."""
        assert self.rows is not None
        assert self.paths is not None
        sums = x.new_zeros((*self.paths.shape[:2], self.rows.shape[1]))
        return sums.scatter_add(2, self.paths, x)


def gathered(x: Tensor, rows: Tensor) -> Tensor:
    """(n, features), (...) -> (..., features): the rows that are asked for.

    The two functions below are one. On a CPU the gradient of `index_select` takes half the time; on
    a GPU it adds rows in any order, and two trainings would not end in the same weights.
    """
    if x.device.type != "cpu":
        return F.embedding(rows, x)
    return x.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def masked_mean(x: Tensor, attention_mask: Tensor) -> Tensor:
    """Average over real tokens: (..., tokens, width), (..., tokens) -> (..., width).

    A row without a real token (an empty slot) averages to zero.
    """
    weights = attention_mask.to(x.dtype).unsqueeze(-2)  # (..., 1, tokens)
    return (weights @ x).squeeze(-2) / weights.sum(-1).clamp(min=1)


def hide(scores: Tensor, mask: Tensor) -> Tensor:
    """Return scores that softmax turns to zero where `mask` is False and something is not hidden.

    Half of the lowest finite number is added, not -inf: an empty slot must not turn into NaN. On a
    CPU that takes a quarter of the time of filling it in, and its gradient is that of the scores.
    """
    lowest = torch.finfo(scores.dtype).min / 2
    return scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, lowest)
