"""Multi-head attention between the text of many questions and the patches of one picture.

Axis legend, used in every comment of the trainable half:

    images   pictures in the batch           slots    questions of one picture (padded)
    tokens   tokens of one question (padded) patches  patch embeddings of one picture
    groups   1 where all questions of a picture still share its patches, else `slots`
    prefixes distinct prefixes of the batch, or of one picture (`prefix_index.py`)
    heads, head_dim, width = heads * head_dim

Each direction equals `nn.MultiheadAttention` in `reference.py`, followed by a linear map; only the
order of the work differs. Keys and values of a picture are computed once for all its questions,
those of a prefix once for all questions that begin with it, and the linear map that follows is
folded into the output projection.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_vqa.pipeline.model.patch_attention import PatchAttention
from frozen_vqa.pipeline.model.prefix_index import Text, hide


class Attention(nn.Module):
    """The projections of one direction of attention; three functions compute three directions."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        # A bias of the keys would add the same to every score of a query, and softmax ignores that.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.watch: Callable[[Tensor], object] | None = None
        """Called with the weights that text and patches give each other in a forward pass, if set:
        (images, slots, tokens, heads, patches), anything finite where there is padding."""

    def split(self, x: Tensor) -> Tensor:
        """Split the last axis: (..., width) -> (..., heads, head_dim)."""
        return x.unflatten(-1, (self.heads, -1))

    def text_to_patches(self, text: Text, patches: Tensor, next_linear: nn.Linear) -> Text:
        """Let every token attend to the patches of its picture, and apply `next_linear`.

        Equals `next_linear(text_to_image(...))` of `reference.ReferenceLayer`. Padding of `text`
        may hold anything finite; the caller leaves its results out. Keys and values are `patches`,
        (images, groups, patches, width), of which none is padding.
        """
        images, groups = patches.shape[:2]
        # A group's queries are all tokens that share its patches: one call, no copied keys.
        queries = text.map(self.query).meet_patches(groups)
        patches = patches.flatten(0, 1)
        q, k, v = (
            self.split(x).transpose(1, 2)  # (images * groups, heads, length, head_dim)
            for x in (
                queries.x.reshape(images * groups, -1, queries.x.shape[-1]),
                self.key(patches),
                self.value(patches),
            )
        )
        attended = _attend(q, k, v) if self.watch is None else self._show(q, k, queries) @ v
        attended = attended.transpose(1, 2).reshape(queries.x.shape)
        weight, bias = self._fold(next_linear)
        return replace(queries, x=F.linear(attended, weight, bias))

    def text_to_text(self, text: Text) -> Tensor:
        """Let every token attend to all tokens of its question, in both directions.

        Equals `self_attention` of `reference.ReferenceLayer`. The result, (images, slots, tokens,
        width), is finite and without meaning where a slot is empty.
        """
        q, k, v = (
            self.split(text.map(linear).per_token().x).transpose(2, 3)
            for linear in (self.query, self.key, self.value)
        )  # (images, slots, heads, tokens, head_dim)
        attended = _attend(q, k, v, text.index.attention_mask[:, :, None, None])
        return self.output(attended.transpose(2, 3).flatten(-2))

    def patches_to_text(
        self, patches: Tensor, text: Text, next_linear: nn.Linear, plus: Tensor | None
    ) -> PatchAttention:
        """Let every patch attend to the tokens of each question, and apply `next_linear`.

        Equals `next_linear(image_to_text(...))` of `reference.ReferenceLayer`. `next_linear` is
        applied to the values before they are averaged, which is the same sum in another order and
        spares two matrix products for every patch of every question. The result is not summed yet:
        (images, slots, patches, next_linear.out_features), finite and without meaning where a slot
        is empty.

        Args:
            patches: (images, groups, patches, width), the queries.
            plus: (images, groups, patches, next_linear.out_features), added to the result, or None.
        """
        scores = self._score(patches, text)
        scores = hide(scores, text.index.attention_mask[..., None])
        # A softmax over an axis with a long one behind it runs three times faster on a CPU than
        # one over a short last axis.
        weights = _softmax(scores, 2)
        if self.watch is not None:
            self.watch(weights.unflatten(-1, (self.heads, -1)))
        weights = weights.reshape(*scores.shape[:2], -1, patches.shape[2])  # .., tokens * heads, ..
        folded, bias = self._fold(next_linear)
        values = text.map(partial(self._fold_values, folded=folded)).per_token().x
        plus = bias.expand(1, 1, 1, -1) if plus is None else plus + bias
        return PatchAttention(weights, values.reshape(*weights.shape[:3], -1), plus)

    def _show(self, q: Tensor, k: Tensor, queries: Text) -> Tensor:
        """Return the weights of text on patches, as `_attend` has them, and show them."""
        assert self.watch is not None
        weights = _weigh(q, k)  # (images * groups, heads, length, patches)
        rows = weights.transpose(1, 2).reshape(*queries.x.shape[:-1], -1)
        self.watch(replace(queries, x=rows).per_token().x.unflatten(-1, (self.heads, -1)))
        return weights

    def _score(self, patches: Tensor, text: Text) -> Tensor:
        """Return each patch's scores of each token: (images, slots, tokens, heads * patches).

        A prefix of a picture gets its scores once for all questions that begin with it.
        """
        images, groups = patches.shape[:2]
        q = self.split(self.query(patches)) * (patches.shape[-1] // self.heads) ** -0.5
        keys = text.map(self.key).meet_patches(groups)
        by_group = self.split(keys.x).reshape(images * groups, -1, *q.shape[-2:])
        q = q.flatten(0, 1).permute(0, 2, 3, 1)  # (images * groups, heads, head_dim, patches)
        scores = by_group.transpose(1, 2) @ q  # (images * groups, heads, tokens, patches)
        scores = scores.transpose(1, 2).reshape(*keys.x.shape[:-1], -1)
        return replace(keys, x=scores).per_token().x

    def _fold_values(self, text: Tensor, folded: Tensor) -> Tensor:
        """Return what each head adds to the folded map's result for each token it attends to.

        (..., width) -> (..., heads * out_features).
        """
        by_head = self.split(folded).permute(1, 2, 0)
        return torch.einsum("...hd,hdo->...ho", self.split(self.value(text)), by_head).flatten(-2)

    def _fold(self, next_linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the output projection followed by a linear map."""
        weight = next_linear.weight @ self.output.weight
        return weight, F.linear(self.output.bias, next_linear.weight, next_linear.bias)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(head_dim)) v; all (..., length, head_dim), True in `mask` = attended."""
    # Not PyTorch's fused kernel. On a GPU its backward pass adds in any order, so that a resumed
    # training would not end as an undisturbed one; and the weights of these few tokens take little
    # memory. On a CPU it is no faster in float32, and takes five times as long in bfloat16.
    return _weigh(q, k, mask) @ v


def _weigh(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(head_dim)): (..., length of q, length of k)."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = hide(scores, mask)
    return _softmax(scores, -1)


def _softmax(scores: Tensor, dim: int) -> Tensor:
    """Return the softmax in the type of the scores; sums are of at least single precision."""
    # On a GPU autocast would write it in single precision, for a product that rounds it again.
    with torch.autocast(scores.device.type, enabled=False):
        return scores.softmax(dim)


def cast_for_autocast(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Cast `x` as autocast would, once for all the matrices that it is multiplied with.

    Without autocast it gets `dtype`, or keeps its own. One step converts it, because an array of
    single precision in between would be the largest of a training.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return x.to(dtype or x.dtype)
