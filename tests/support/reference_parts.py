"""What the formulas of every frozen model have in common, written out in float64."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def distance(found: Any, exact: torch.Tensor) -> float:
    """Return the largest relative L2 distance of a vector."""
    off = torch.as_tensor(found).double() - exact
    return float((off.norm(dim=-1) / exact.norm(dim=-1)).max())


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"]
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def heads(x: Tensor, size: int) -> Tensor:
    """(tokens, heads * size) -> (heads, tokens, size)."""
    return x.reshape(len(x), -1, size).transpose(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, sees: Tensor | None = None) -> Tensor:
    """(heads, tokens, size) each; fewer heads of keys and values serve several of the queries."""
    k, v = (one.repeat_interleave(len(q) // len(one), 0) for one in (k, v))
    scores = torch.einsum("hqd,hkd->hqk", q, k) * scale
    if sees is not None:
        scores = scores.masked_fill(~sees, -math.inf)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    return torch.einsum("hqk,hkd->qhd", weights, v).flatten(1)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (i, i + size / 2) of (heads, tokens, size) by (tokens, size / 2)."""
    a, b = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_pytorch_tanh": lambda x: (
        x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    ),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "silu": lambda x: x * sigmoid(x),
}
