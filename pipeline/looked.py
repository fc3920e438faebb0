"""What patches see in the words of each question, and the largest sum of a training step.

Each patch gets, for each question, a vector of its own: with ten questions a picture these are ten
times the patches, and on a CPU it is memory that limits what is done to them. Where only their
average is wanted, they are made, activated and averaged for a few pictures at a time, so that a
part is still in the processor's cache when it is used again, on the way back too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART = 2 * 2**20
"""Bytes of a part: of several sizes about this one was the fastest, for 1 MiB of cache a core."""


@dataclass(frozen=True)
class Looked:
    """For every patch and question a weighted sum of the question's values, and something added.

    Attributes:
        weights: (images, slots, tokens * heads, patches), the attention of each head.
        values: (images, slots, tokens * heads, features), what each word adds by each head.
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
        total: Tensor = _SumOfRelu.apply(self.weights, self.values, self.plus)
        return total / self.weights.shape[-1]


class _SumOfRelu(torch.autograd.Function):
    """Sum over the patches of the positive parts of `Looked.sums`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, plus: Tensor) -> Tensor:
        images, slots, _, patches = weights.shape
        features = values.shape[-1]
        parts = _parts(weights, features)
        # For the way back what was positive is kept; without one a part's room is used again.
        room = images if any(ctx.needs_input_grad) else parts.step
        relu = weights.new_empty(room, slots, patches, features)
        total = weights.new_empty(images, slots, features)
        for part, w, v in _cut(parts, weights, values):
            own = relu[part] if room == images else relu[: len(weights[part])]
            torch.bmm(w.transpose(1, 2), v, out=own.flatten(0, 1))
            own.add_(plus[part]).clamp_min_(0)
            torch.sum(own, 2, out=total[part])
        ctx.save_for_backward(weights, values, relu)
        ctx.plus = plus.shape, plus.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, values, relu = ctx.saved_tensors
        shape, dtype = ctx.plus
        # Contiguous whatever those are, so that a part of them is a view that can be written to.
        of_weights, of_values = (x.new_empty(x.shape) for x in (weights, values))
        of_plus = weights.new_empty(shape, dtype=dtype)
        parts = _parts(weights, values.shape[-1])
        scratch = torch.empty_like(relu[: parts.step])
        for part, w, v in _cut(parts, weights, values):
            own = scratch[: len(relu[part])]
            torch.ops.aten.threshold_backward.grad_input(
                grad[part].unsqueeze(2).expand_as(own), relu[part], 0, grad_input=own
            )
            flat = own.flatten(0, 1)
            torch.bmm(v, flat.transpose(1, 2), out=of_weights[part].flatten(0, 1))
            torch.bmm(w, flat, out=of_values[part].flatten(0, 1))
            if shape[1] == 1:
                torch.sum(own, 1, keepdim=True, dtype=dtype, out=of_plus[part])
            else:
                of_plus[part] = own
        return of_weights, of_values, of_plus


def _parts(weights: Tensor, features: int) -> range:
    """Return the first pictures of parts that a processor's cache holds; one part on a GPU."""
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
