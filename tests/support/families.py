"""Folders of small real models of every family, with random weights, and these in float64."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
)

from frozen_vqa.pipeline.encoders.checkpoint import quiet_transformers
from frozen_vqa.pipeline.encoders.families.text import TEXT
from frozen_vqa.pipeline.encoders.families.vision import VISION
from tests.support.encoders import BOS, EOS, byte_tokenizer
from tests.support.reference_vision import reference_patches

PATCH, SIDE = 8, 32
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
WINDOW = 3

VISION_SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": SIDE,
    "patch_size": PATCH,
}
TEXT_SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
BY_LAYER = ["sliding_attention", "full_attention", "sliding_attention"]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
OF_TYPE: Mapping[str, dict[str, Any]] = {
    "dinov2": {"mlp_ratio": 2},
    "dinov2_with_registers": {"mlp_ratio": 2, "num_register_tokens": 3},
    "dinov3_vit": {"num_register_tokens": 4, "use_gated_mlp": True, "layerscale_value": 0.5},
    "llama": {"rope_parameters": LLAMA3},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "layer_types": BY_LAYER},
    "qwen3": {"sliding_window": WINDOW, "use_sliding_window": True, "layer_types": BY_LAYER},
    "gemma3_text": {
        "sliding_window": WINDOW,
        "layer_types": BY_LAYER,
        "query_pre_attn_scalar": 10,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "modernbert": {"local_attention": 2 * WINDOW, "norm_bias": True},
}


class Saved(NamedTuple):
    """A folder, and what it holds of the model that is used: type, weights, configuration."""

    folder: Path
    kind: str
    weights: dict[str, Tensor]
    config: dict[str, Any]


def save_vision(folder: Path, kind: str, sizes: Mapping[str, Any] = VISION_SIZES) -> Saved:
    """Save a small model of a type of pictures' families, which may have other parts beside it."""
    part = VISION[kind].part
    settings = {**OF_TYPE.get(kind, {}), **sizes}
    if part:
        words = {**sizes, "vocab_size": 50, "max_position_embeddings": 8}
        config = CONFIG_MAPPING[kind](vision_config=settings, text_config=words)
    else:
        config = CONFIG_MAPPING[kind](**settings)
    model = randomised(MODEL_MAPPING[type(config)](config))
    used = model.vision_model if part else model
    with quiet_transformers():
        model.save_pretrained(folder)
    side = settings["image_size"]
    square = {"height": side, "width": side}
    steps: dict[str, Any] = {"size": square}
    if edge := SHORTEST_EDGES.get(VISION[kind].name):
        steps = {"size": {"shortest_edge": int(side * edge)}}
        steps |= {"do_center_crop": True, "crop_size": square}
    processor = {
        "image_processor_type": PROCESSORS[VISION[kind].name],
        **dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True),
        **steps,
        "resample": 3,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return Saved(folder, used.config.model_type, exact(used), used.config.to_dict())


PROCESSORS = {
    "DINOv2": "BitImageProcessor",
    "DINOv3": "DINOv3ViTImageProcessorFast",
    "ViT": "ViTImageProcessor",
    "CLIP": "CLIPImageProcessor",
    "SigLIP": "SiglipImageProcessor",
}
"""As the published files name them."""

SHORTEST_EDGES = {"DINOv2": 8 / 7, "CLIP": 1}
"""What the shorter edge is resized to, for each pixel that is cut out; others squeeze."""


def save_text(folder: Path, kind: str, sizes: Mapping[str, Any] = TEXT_SIZES) -> Saved:
    """Save a small model of a type of questions' families, with a tokenizer as it has."""
    own = "gemma3_text" if kind == "gemma3" else kind
    settings = {**OF_TYPE[own], **sizes}
    if kind == "qwen2":
        settings.pop("head_dim", None)
    if kind == "modernbert":  # it has no such parts
        for name in ("num_key_value_heads", "head_dim"):
            settings.pop(name, None)
    if kind == "gemma3":
        eyes = {**VISION_SIZES, "model_type": "siglip_vision_model"}
        config = CONFIG_MAPPING[kind](
            text_config=settings, vision_config=eyes, mm_tokens_per_image=4
        )
        model = randomised(AutoModelForImageTextToText.from_config(config))  # as it is published
        used = model.model.language_model
    else:
        model = used = randomised(
            MODEL_MAPPING[CONFIG_MAPPING[kind]](CONFIG_MAPPING[kind](**settings))
        )
    control = {"bos_token": BOS, "eos_token": EOS}
    if TEXT[kind].name == "Qwen":
        control = {"eos_token": EOS}  # its config.json alone names what stands first
    elif not TEXT[kind].causal:
        control = {"cls_token": BOS, "sep_token": EOS}
    with quiet_transformers():
        model.save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=byte_tokenizer(adds_bos=False), **control
        ).save_pretrained(folder)
    return Saved(folder, own, exact(used), used.config.to_dict())


def randomised(model: Any) -> Any:
    """Give every parameter a value of its own, so that nothing that is left out stays hidden."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "norm" in name or "lambda" in name
            spread = 0.3 if norm or parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.normal_(1.0 if norm else 0.0, spread, generator=generator)
        for module in model.modules():
            if type(module).__name__ == "Gemma3RMSNorm":  # it scales by 1 + weight
                module.weight -= 1
    return model.eval()


def exact(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().double() for name, value in model.state_dict().items()}


def drawn(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (61, 90, 3), dtype=np.uint8)
    return Image.fromarray(values)


def expected(saved: Saved, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(pixels).double() / 255
    x = (x - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    return reference_patches(saved.kind, saved.weights, saved.config, x.permute(2, 0, 1))
