"""The formulas of question models in float64; nothing of transformers computes here.

Touvron et al. 2023 and Grattafiori et al. 2024 (Llama), Jiang et al. 2023 (Mistral), the Qwen teams
2024 and 2025, Gemma team 2025 (Gemma 3), Warner et al. 2024 (ModernBERT), Su et al. 2021 (rotary).
"""

import math
from collections.abc import Mapping, Sequence
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

Settings = Mapping[str, Any]


def reference_states(
    kind: str, w: Weights, config: Settings, tokens: Sequence[int], layer: int
) -> Tensor:
    """Return the states of one question at a layer, (tokens, dim): the last one is normed."""
    layers = config["num_hidden_layers"]
    x = _embedded(kind, w, config, tokens)
    wanted = layer % (layers + 1)
    for i in range(wanted):
        one = {
            name.removeprefix(f"layers.{i}."): value
            for name, value in w.items()
            if name.startswith(f"layers.{i}.")
        }
        block = _bert_layer if kind == "modernbert" else _causal_layer
        x = block(kind, one, config, x, i)
    if wanted == layers and kind == "modernbert":
        return layer_norm(w, "final_norm", x, config["norm_eps"])
    return _rms(kind, w, config, "norm", x) if wanted == layers else x


def _embedded(kind: str, w: Weights, config: Settings, tokens: Sequence[int]) -> Tensor:
    if kind == "modernbert":
        x = w["embeddings.tok_embeddings.weight"][list(tokens)]
        return layer_norm(w, "embeddings.norm", x, config["norm_eps"])
    x = w["embed_tokens.weight"][list(tokens)]
    return x * math.sqrt(config["hidden_size"]) if kind == "gemma3_text" else x


def _causal_layer(kind: str, w: Weights, config: Settings, x: Tensor, i: int) -> Tensor:
    gemma = kind == "gemma3_text"
    y = _causal_attention(kind, w, config, _rms(kind, w, config, "input_layernorm", x), i)
    if gemma:
        y = _rms(kind, w, config, "post_attention_layernorm", y)
    x = x + y
    before = "pre_feedforward_layernorm" if gemma else "post_attention_layernorm"
    y = _rms(kind, w, config, before, x)
    act = ACTIVATIONS[config["hidden_activation" if gemma else "hidden_act"]]
    y = act(linear(w, "mlp.gate_proj", y)) * linear(w, "mlp.up_proj", y)
    y = linear(w, "mlp.down_proj", y)
    return x + (_rms(kind, w, config, "post_feedforward_layernorm", y) if gemma else y)


def _causal_attention(kind: str, w: Weights, config: Settings, x: Tensor, i: int) -> Tensor:
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    q, k, v = (heads(linear(w, f"self_attn.{one}_proj", x), head) for one in "qkv")
    if "self_attn.q_norm.weight" in w:
        q = _rms(kind, w, config, "self_attn.q_norm", q)
        k = _rms(kind, w, config, "self_attn.k_norm", k)
    sliding = _is_sliding(kind, config, i)
    rope = config["rope_parameters"]
    if "full_attention" in rope:
        rope = rope["sliding_attention" if sliding else "full_attention"]
    angles = torch.arange(len(x), dtype=torch.float64)[:, None] * _speeds(rope, head)
    places = torch.arange(len(x))
    back = places[:, None] - places
    sees = (back >= 0) & (back < config["sliding_window"]) if sliding else back >= 0
    scale = (config["query_pre_attn_scalar"] if kind == "gemma3_text" else head) ** -0.5
    return linear(
        w, "self_attn.o_proj", attend(turned(q, angles), turned(k, angles), v, scale, sees)
    )


def _bert_layer(kind: str, w: Weights, config: Settings, x: Tensor, i: int) -> Tensor:
    eps, size = config["norm_eps"], config["hidden_size"]
    head = size // config["num_attention_heads"]
    y = layer_norm(w, "attn_norm", x, eps) if i else x
    q, k, v = (heads(one, head) for one in linear(w, "attn.Wqkv", y).split(size, -1))
    sliding = config["layer_types"][i] == "sliding_attention"
    rope = config["rope_parameters"][config["layer_types"][i]]
    angles = torch.arange(len(x), dtype=torch.float64)[:, None] * _speeds(rope, head)
    places = torch.arange(len(x))
    near = (places[:, None] - places).abs() <= config["local_attention"] // 2
    q, k = turned(q, angles), turned(k, angles)
    x = x + linear(w, "attn.Wo", attend(q, k, v, head**-0.5, near if sliding else None))
    up, gate = linear(w, "mlp.Wi", layer_norm(w, "mlp_norm", x, eps)).chunk(2, -1)
    return x + linear(w, "mlp.Wo", ACTIVATIONS[config["hidden_activation"]](up) * gate)


def _is_sliding(kind: str, config: Settings, i: int) -> bool:
    if kind == "mistral":
        return config["sliding_window"] is not None
    return (config.get("layer_types") or [""] * (i + 1))[i] == "sliding_attention"


def _rms(kind: str, w: Weights, config: Settings, name: str, x: Tensor) -> Tensor:
    scale = w[f"{name}.weight"]
    scale = 1 + scale if kind == "gemma3_text" else scale
    return x / (x.square().mean(-1, keepdim=True) + config["rms_norm_eps"]).sqrt() * scale


def _speeds(rope: Settings, head: int) -> Tensor:
    """Return the angle per position of each pair: (head / 2,)."""
    speeds = rope["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    if rope["rope_type"] == "linear":
        return speeds / rope["factor"]
    if rope["rope_type"] == "default":
        return speeds
    assert rope["rope_type"] == "llama3"
    waves = rope["original_max_position_embeddings"] * speeds / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = ((waves - low) / (high - low)).clamp(0, 1)  # 1 for fast pairs, which stay
    return speeds * (kept + (1 - kept) / rope["factor"])
