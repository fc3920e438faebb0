"""The formulas of picture models in float64; nothing of transformers computes here.

Dosovitskiy et al. 2021 (ViT), Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Oquab et al.
2024 (DINOv2), Darcet et al. 2024 (registers), Siméoni et al. 2025 (DINOv3).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.support.reference_parts import (
    ACTIVATIONS,
    Weights,
    attend,
    heads,
    layer_norm,
    linear,
    turned,
)


@dataclass(frozen=True)
class Names:
    """How a family calls its weights, and what it has of the parts that only some have."""

    layer: str
    patch: str
    final: str
    cls: str = ""
    positions: str = ""
    first_norm: str = ""
    attention: str = "attention"
    out: str = "o_proj"
    norms: tuple[str, str] = ("norm1", "norm2")
    up: str = "mlp.fc1"
    down: str = "mlp.fc2"
    scales: bool = False
    antialias: bool = False


_DINOV2 = Names(
    layer="encoder.layer.{}.",
    patch="embeddings.patch_embeddings.projection",
    final="layernorm",
    cls="embeddings.cls_token",
    positions="embeddings.position_embeddings",
    scales=True,
)
_CLIP = Names(
    layer="encoder.layers.{}.",
    patch="embeddings.patch_embedding",
    final="post_layernorm",
    cls="embeddings.class_embedding",
    positions="embeddings.position_embedding.weight",
    first_norm="pre_layrnorm",
    attention="self_attn",
    out="out_proj",
    norms=("layer_norm1", "layer_norm2"),
)
NAMES: Mapping[str, Names] = {
    "dinov2": _DINOV2,
    "dinov2_with_registers": Names(**{**vars(_DINOV2), "antialias": True}),
    "dinov3_vit": Names(
        layer="model.layer.{}.",
        patch="embeddings.patch_embeddings",
        final="norm",
        cls="embeddings.cls_token",
        up="mlp.up_proj",
        down="mlp.down_proj",
        scales=True,
    ),
    "vit": Names(
        layer="layers.{}.",
        patch="embeddings.patch_embeddings.projection",
        final="layernorm",
        cls="embeddings.cls_token",
        positions="embeddings.position_embeddings",
        norms=("layernorm_before", "layernorm_after"),
    ),
    "clip_vision_model": _CLIP,
    "siglip_vision_model": Names(**{**vars(_CLIP), "cls": "", "first_norm": ""}),
}


def reference_patches(
    kind: str, w: Weights, config: Mapping[str, Any], pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return patch embeddings and CLS of a picture of (3, height, width), normalised."""
    names, size, eps = NAMES[kind], config["patch_size"], config["layer_norm_eps"]
    grid = (pixels.shape[1] // size, pixels.shape[2] // size)
    kernel = w[f"{names.patch}.weight"]
    cut = pixels[:, : grid[0] * size, : grid[1] * size]
    fields = cut.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4)
    x = fields.reshape(grid[0] * grid[1], -1) @ kernel.flatten(1).T
    if f"{names.patch}.bias" in w:
        x = x + w[f"{names.patch}.bias"]
    cls = [w[names.cls].reshape(1, -1)] if names.cls else []
    registers = [w[name].reshape(-1, x.shape[1]) for name in ("embeddings.register_tokens",)
                 if name in w]  # fmt: skip
    if names.positions:
        table = w[names.positions].reshape(-1, x.shape[1])
        cls = [one + table[:1] for one in cls]
        x = x + _positions(table[len(cls) :], grid, antialias=names.antialias)
    before = torch.cat([*cls, *registers, x[:0]])
    x = torch.cat([before, x])
    if names.first_norm:
        x = layer_norm(w, names.first_norm, x, eps)
    for i in range(config["num_hidden_layers"]):
        layer = {
            name.removeprefix(names.layer.format(i)): value
            for name, value in w.items()
            if name.startswith(names.layer.format(i))
        }
        y = layer_norm(layer, names.norms[0], x, eps)
        y = _attention(names, layer, config, y, grid, len(before))
        x = x + (y * layer["layer_scale1.lambda1"] if names.scales else y)
        y = _mlp(names, layer, config, layer_norm(layer, names.norms[1], x, eps))
        x = x + (y * layer["layer_scale2.lambda1"] if names.scales else y)
    x = layer_norm(w, names.final, x, eps)
    patches = x[len(before) :]
    return patches, x[0] if names.cls else patches.mean(0)


def _attention(
    names: Names,
    w: Weights,
    config: Mapping[str, Any],
    x: Tensor,
    grid: tuple[int, int],
    before: int,
) -> Tensor:
    head = x.shape[1] // config["num_attention_heads"]
    q, k, v = (heads(linear(w, f"{names.attention}.{one}_proj", x), head) for one in "qkv")
    if not names.positions:  # rotary, of the patches alone
        angles = _angles(grid, head, config["rope_theta"])
        q, k = (torch.cat((one[:, :before], turned(one[:, before:], angles)), 1) for one in (q, k))
    return linear(w, f"{names.attention}.{names.out}", attend(q, k, v, head**-0.5))


def _mlp(names: Names, w: Weights, config: Mapping[str, Any], x: Tensor) -> Tensor:
    act = ACTIVATIONS[config["hidden_act"]]
    if "mlp.gate_proj.weight" in w:
        inner = act(linear(w, "mlp.gate_proj", x)) * linear(w, "mlp.up_proj", x)
        return linear(w, "mlp.down_proj", inner)
    return linear(w, names.down, act(linear(w, names.up, x)))


def _angles(grid: tuple[int, int], head: int, theta: float) -> Tensor:
    """Return the angles of each patch by its centre, from -1 to 1: (patches, head / 2)."""
    rows, columns = (2 * (torch.arange(n, dtype=torch.float64) + 0.5) / n - 1 for n in grid)
    speeds = theta ** -(torch.arange(head // 4, dtype=torch.float64) * 4 / head)
    down = rows[:, None, None] * speeds
    along = columns[None, :, None] * speeds
    both = torch.cat((down.expand(*grid, -1), along.expand(*grid, -1)), -1)
    return 2 * math.pi * both.flatten(0, 1)


def _positions(table: Tensor, grid: tuple[int, int], *, antialias: bool) -> Tensor:
    """Return a square table of positions as a grid of another size: (patches, dim)."""
    side = math.isqrt(len(table))
    if grid == (side, side):
        return table
    square = table.reshape(side, side, -1)
    rows, columns = (_cubic_matrix(new, side, antialias=antialias) for new in grid)
    return torch.einsum("ra,cb,abd->rcd", rows, columns, square).flatten(0, 1)


def _cubic(x: float, a: float) -> float:
    """Keys 1981."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def _cubic_matrix(new: int, old: int, *, antialias: bool) -> Tensor:
    """Return what each of `new` points takes of `old` ones.

    With antialias as Pillow does it: the kernel (a = -0.5) is as wide as a step, and what lies
    outside is left out. Without it a = -0.75, and the outermost point is repeated.
    """
    matrix = torch.zeros(new, old, dtype=torch.float64)
    step = old / new
    for i in range(new):
        centre = (i + 0.5) * step
        if antialias:
            wide = max(step, 1.0)
            for j in range(old):
                matrix[i, j] = _cubic((j + 0.5 - centre) / wide, -0.5)
            matrix[i] /= matrix[i].sum()
        else:
            first = math.floor(centre - 0.5)
            for j in range(first - 1, first + 3):
                matrix[i, min(max(j, 0), old - 1)] += _cubic(j + 0.5 - centre, -0.75)
    return matrix
