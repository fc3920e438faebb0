"""How much memory a head takes, known from its settings before any is taken for it."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.plugins import is_own


def bound_parameters(config: ModelConfig) -> int:
    """Return a number that the parameters do not exceed; it costs nothing, but for own fusions."""
    if is_own(config.fusion):
        return count_parameters(config)
    width, layer = config.width, 64 * config.width * (config.width + 1)
    ends = config.vision_dim + config.text_dim + sum(config.grid) + config.pictures
    ends += 4 * (config.answers + 1)
    return (config.layers + 1) * layer + width * ends + 4 * config.answers


def count_parameters(config: ModelConfig) -> int:
    """Return the number of parameters, without making them.

    All layers but the last are equal, so heads of one and two layers tell the number for any; but
    what a fusion of the user's own makes of the layers is not known.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        known = (config.layers,) if is_own(config.fusion) else (1, 2)
        numbers = [
            sum(p.numel() for p in VqaModel(replace(config, layers=layers)).parameters())
            for layers in known
        ]
    return numbers[0] + (config.layers - 1) * (numbers[-1] - numbers[0])


def bytes_for_backward(
    config: ModelConfig, *, images: int, slots: int, tokens: int, dtype: torch.dtype
) -> int:
    """Return the bytes that the forward pass of a batch keeps for the backward pass.

    The pass is made with tensors that have a shape and no numbers, so it costs a second and no
    memory. Each of `images` has `slots` questions of so many tokens, and no two share a prefix.
    """
    from torch._subclasses import FakeTensorMode  # imports a second's worth

    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    pictures = config.pictures * math.prod(config.grid)
    lower = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), FakeTensorMode(), hooks, lower:
        head = VqaModel(config).train()
        prefixes = torch.zeros(images, slots * tokens, dtype=torch.int64)
        logits = head(
            torch.zeros(images, pictures, config.vision_dim, dtype=torch.float16),
            torch.zeros(images * slots * tokens, config.text_dim, dtype=torch.float16),
            torch.ones(images, slots, tokens, dtype=torch.bool),
            picture_prefixes=prefixes,
            token_prefixes=prefixes.reshape(images, slots, tokens),
            question_slots=torch.zeros(images * slots, dtype=torch.int64),
        )
        for parameter in head.parameters():
            kept.pop(parameter.untyped_storage()._cdata, None)
        del logits
    return sum(kept.values())
