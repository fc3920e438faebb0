"""Attention of patches to text, pooled: the largest sum of a training step.

Each patch gets a vector for each question: with ten questions a picture, ten times as many as there
are patches, and on a CPU memory limits what is done to them. Where only their average is wanted,
`_PoolOfRelu` computes, activates and averages them for a few pictures at a time, so that each part
is still in the processor's cache when it is used again, backward too. It equals the end of
`reference.ReferenceMlp.activate` and `reference.pool`.

Its hand-written gradient earns its lines: with PyTorch's own gradient, over everything or over the
same parts, a step on 64 x 192 patches (easy-VQA, batches of 512) took 1.09 to 1.13 times as long,
and on 256 x 768 patches (batches of 256) 1.03 to 1.04 times. Measured in turn, step by step, in one
process, in float32, on one thread and on two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART = 2 * 2**20
"""Bytes of a part; the fastest of several sizes with 1 MiB of cache a core."""


@dataclass(frozen=True)
class PatchAttention:
    """For each patch and question a sum of the question's values, weighted by attention.

    Attributes:
        weights: (images, slots, tokens * heads, patches), the attention weights of each head.
        values: (images, slots, tokens * heads, features), the values of each token in each head.
        plus: (images, groups, patches, features), added to the sums.
    """

    weights: Tensor
    values: Tensor
    plus: Tensor

    def sums(self) -> Tensor:
        """Return the sums: (images, slots, patches, features)."""
        return (self.weights.transpose(2, 3) @ self.values).add_(self.plus)

    def mean_of_relu(self) -> Tensor:
        """Return `sums().relu().mean(2)`: (images, slots, features)."""
        total, _ = _PoolOfRelu.apply(self.weights, self.values, self.plus, None)
        return total / self.weights.shape[-1]

    def average_of_relu(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """Average `sums().relu()` over the patches, weighted by a softmax of scores.

        `score`, (features,), turns the positive parts of a patch into its score. Returns the
        average, (images, slots, features), and the weights, (images, slots, patches).
        """
        return _PoolOfRelu.apply(self.weights, self.values, self.plus, score)


class _PoolOfRelu(torch.autograd.Function):
    """The sum of the positive parts over the patches, or their average by scores."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, values: Tensor, plus: Tensor, score: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        images, slots, _, patches = weights.shape
        features = values.shape[-1]
        parts = _choose_parts(weights, features)
        # The backward pass needs all positive parts; without one, all parts share their memory.
        room = images if any(ctx.needs_input_grad) else parts.step
        relu = weights.new_empty(room, slots, patches, features)
        total = weights.new_empty(images, slots, features)
        average = None
        if score is not None:
            at_least_single = torch.promote_types(weights.dtype, torch.float32)
            average = weights.new_empty(images, slots, patches, dtype=at_least_single)
        for part, w, v in _cut(parts, weights, values):
            own = relu[part] if room == images else relu[: len(weights[part])]
            torch.bmm(w.transpose(1, 2), v, out=own.flatten(0, 1))
            own.add_(plus[part]).clamp_min_(0)
            if score is None or average is None:
                torch.sum(own, 2, out=total[part])
            else:
                scores = (own @ score.to(own.dtype).unsqueeze(1)).squeeze(-1)
                average[part] = scores.softmax(-1, dtype=average.dtype)
                by = average[part].to(own.dtype).flatten(0, 1).unsqueeze(1)
                torch.bmm(by, own.flatten(0, 1), out=total[part].flatten(0, 1).unsqueeze(1))
        ctx.save_for_backward(weights, values, relu, score, average)
        ctx.plus = plus.shape, plus.dtype
        return total, average

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor, of_average: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        weights, values, relu, score, average = ctx.saved_tensors
        shape, dtype = ctx.plus
        of_score = None if score is None else torch.zeros_like(score)
        # Contiguous even if the inputs are not, so that each part is a view to write to.
        of_weights, of_values = (x.new_empty(x.shape) for x in (weights, values))
        of_plus = weights.new_empty(shape, dtype=dtype)
        parts = _choose_parts(weights, values.shape[-1])
        scratch = torch.empty_like(relu[: parts.step])
        for part, w, v in _cut(parts, weights, values):
            own = scratch[: len(relu[part])]
            above = grad[part].unsqueeze(2).expand_as(own)
            if of_score is not None and of_average is not None:
                above = own
                of_score += _backward_average(
                    grad[part], of_average[part], relu[part], average[part], score, out=own
                )
            torch.ops.aten.threshold_backward.grad_input(above, relu[part], 0, grad_input=own)
            flat = own.flatten(0, 1)
            torch.bmm(v, flat.transpose(1, 2), out=of_weights[part].flatten(0, 1))
            torch.bmm(w, flat, out=of_values[part].flatten(0, 1))
            if shape[1] == 1:
                torch.sum(own, 1, keepdim=True, dtype=dtype, out=of_plus[part])
            else:
                of_plus[part] = own
        return of_weights, of_values, of_plus, of_score


def _backward_average(
    grad: Tensor, of_average: Tensor, x: Tensor, average: Tensor, score: Tensor, *, out: Tensor
) -> Tensor:
    """Compute the gradients of an average whose weights are the softmax of `x @ score`.

    Args:
        grad: (images, slots, features), gradient of the average.
        of_average: (images, slots, patches), gradient of the weights.
        x: (images, slots, patches, features), the averaged features.
        average: (images, slots, patches), the weights.
        score: (features,), whose gradient is returned.
        out: Like `x`; receives its gradient.
    """
    # A vector times matrices is twice as fast on a CPU as matrices times a vector.
    by_weight = (grad.unsqueeze(2) @ x.transpose(2, 3)).squeeze(2) + of_average
    by_score = torch.ops.aten._softmax_backward_data(by_weight, average, -1, average.dtype)
    # For each patch its weight times the average's gradient, and its score's times `score`.
    left = torch.stack([average.to(x.dtype), by_score.to(x.dtype)], -2).flatten(0, 1)
    right = torch.stack([grad, score.to(x.dtype).expand_as(grad)], -2).flatten(0, 1)
    torch.bmm(left.transpose(1, 2), right, out=out.flatten(0, 1))
    return (left[:, 1].flatten() @ x.flatten(0, 2)).to(score.dtype)


def _choose_parts(weights: Tensor, features: int) -> range:
    """Return the first picture of each part that fits the processor's cache; one part on a GPU."""
    images, slots, _, patches = weights.shape
    if weights.device.type != "cpu":
        return range(0, images, max(1, images))
    each = slots * patches * features * weights.element_size()
    return range(0, images, max(1, PART // each))


def _cut(parts: range, *tensors: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield each part and its pictures of two tensors, (images * slots, ...)."""
    for first in parts:
        part = slice(first, first + parts.step)
        one, other = (tensor[part].flatten(0, 1) for tensor in tensors)
        yield part, one, other
