"""Every family in the sizes of a published model, with random weights, against its formulas.

Vocabularies have 1,000 tokens, and larger question models fewer layers; nothing else is smaller.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from tests.support import encoders
from tests.support.families import drawn, expected, save_text, save_vision
from tests.support.reference_parts import distance
from tests.support.reference_text import reference_states

_home = encoders._home  # a fixture that is in force in every test
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BASE: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
}
PICTURES: Mapping[str, tuple[str, dict[str, Any], list[int | str]]] = {
    "dinov2-base": (
        "dinov2",
        {**BASE, "image_size": 518, "patch_size": 14, "mlp_ratio": 4},
        [224, 518, "336x448"],
    ),
    "dinov2-with-registers-base": (
        "dinov2_with_registers",
        {
            **BASE,
            **{"image_size": 518, "patch_size": 14, "mlp_ratio": 4, "num_register_tokens": 4},
        },
        [224, "336x448"],
    ),
    "dinov3-vits16": (
        "dinov3_vit",
        {
            **BASE,
            **{"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
            **{"num_register_tokens": 4, "use_gated_mlp": False, "layerscale_value": 1.0},
        },
        [224, "336x448"],
    ),
    "vit-base-patch16-224": ("vit", BASE, [224, "336x448"]),
    "clip-vit-base-patch32": (
        "clip_vision_model",
        {**BASE, "patch_size": 32},
        [224, "320x448"],
    ),
    "siglip2-base-patch16-224": ("siglip_vision_model", BASE, [224, "336x448"]),
}
CONTROL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
LONG = {"vocab_size": 1000, "max_position_embeddings": 8192, **CONTROL}
QUESTIONS: Mapping[str, tuple[str, dict[str, Any], int]] = {
    "Llama-3.2-1B": (
        "llama",
        {
            **{"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 4},
            **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64},
            "rope_parameters": {
                **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0},
                **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
                "original_max_position_embeddings": 8192,
            },
        },
        40,
    ),
    "SmolLM2-135M": (
        "llama",
        {
            **{"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30},
            **{"num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64},
            "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        },
        40,
    ),
    "Mistral-7B": (
        "mistral",
        {
            **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 1},
            **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128},
            "sliding_window": 4096,
        },
        40,
    ),
    "Qwen2.5-0.5B": (
        "qwen2",
        {
            **{"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 8},
            **{"num_attention_heads": 14, "num_key_value_heads": 2},
            **{"use_sliding_window": False, "layer_types": None},
        },
        40,
    ),
    "Qwen3-0.6B": (
        "qwen3",
        {
            **{"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 8},
            **{"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128},
            **{"use_sliding_window": False, "layer_types": None},
        },
        40,
    ),
    "gemma-3-1b": (
        "gemma3_text",
        {
            **{"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 6},
            **{"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256},
            **{"sliding_window": 512, "query_pre_attn_scalar": 256, "layer_types": None},
            "rope_parameters": None,
        },
        540,
    ),
    "ModernBERT-base": (
        "modernbert",
        {
            **{"hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22},
            **{"num_attention_heads": 12, "local_attention": 128, "norm_bias": False},
        },
        150,
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_patch_embeddings_are_those_of_the_formulas(name: str, tmp_path: Path) -> None:
    kind, sizes, asked = PICTURES[name]
    model = save_vision(tmp_path, kind, sizes)
    for size in asked:
        encoder = ImageEncoder(str(tmp_path), image_size=size)
        pixels = encoder.pixels(drawn(0))
        patches, cls = encoder.encode(pixels[None])
        exact, whole = expected(model, pixels)
        print(name, size, distance(patches[0], exact), distance(cls[0], whole))
        assert distance(patches[0], exact) < 1e-5
        assert distance(cls[0], whole) < 1e-5


@pytest.mark.parametrize("name", QUESTIONS)
def test_states_are_those_of_the_formulas(name: str, tmp_path: Path) -> None:
    kind, sizes, length = QUESTIONS[name]
    model = save_text(tmp_path, kind, LONG | sizes)
    ids = [0, *np.random.default_rng(0).integers(2, 1000, length).tolist()]
    middle = sizes["num_hidden_layers"] // 2
    for layer in (-1, middle):
        encoder = TextEncoder(str(tmp_path), layer=layer)
        states = encoder.encode([ids])[0]
        exact = reference_states(model.kind, model.weights, model.config, ids, layer)
        print(name, layer, distance(states, exact))
        assert distance(states, exact) < 1e-5
        if encoder.encodes_trees:
            # The question, and another one that parts from it in the middle.
            half = len(ids) // 2
            tokens, parents = [*ids, 7, 8], [*range(-1, len(ids) - 1), half, len(ids)]
            tree = encoder.encode_tree(tokens, parents)
            other = encoder.encode([[*ids[: half + 1], 7, 8]])[0]
            assert distance(tree[: len(ids)], exact) < 1e-5
            assert distance(tree[len(ids) :], other[-2:].double()) < 1e-5
            assert torch.isfinite(tree).all()
