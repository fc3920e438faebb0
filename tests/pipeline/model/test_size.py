"""The parameters of every kind of head are known without making it."""

import itertools

import pytest
import torch

from frozen_vqa.pipeline.model.config import FUSIONS, POOLINGS, Fusion, ModelConfig
from frozen_vqa.pipeline.model.size import bound_parameters, count_parameters
from frozen_vqa.pipeline.model.vqa_model import VqaModel


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_number_is_that_of_the_made_head(fusion: Fusion) -> None:
    kinds = itertools.product((1, 3), (False, True), POOLINGS, ("concat", "gated"))
    for layers, on, pooling, merge in kinds:
        config = ModelConfig(
            fusion=fusion,
            width=8,
            heads=2,
            layers=layers,
            text_self_attention=on,
            post_norm=on,
            pooling=pooling,
            merge=merge,
            answer_head="linear" if on else "mlp",
            vision_dim=5,
            text_dim=7,
            grid=(2, 3),
            answers=4,
        )
        before = torch.get_rng_state()
        counted = count_parameters(config)
        assert torch.equal(torch.get_rng_state(), before)
        assert counted == sum(p.numel() for p in VqaModel(config).parameters())
        assert counted <= bound_parameters(config)
