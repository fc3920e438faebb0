"""How many parameters a head has, known from its settings before any memory is taken for them."""

from dataclasses import replace

import torch

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
