"""The parameters of every kind of head are known without making it."""

import itertools
import subprocess
import sys

import pytest
import torch

from frozen_vqa.pipeline.model.config import FUSIONS, POOLINGS, Fusion, ModelConfig
from frozen_vqa.pipeline.model.size import bound_parameters, count_parameters
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from tests.support.repository import ROOT


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


def test_a_head_without_memory_loads_no_compiler() -> None:
    """Any draw on the device `meta` but a uniform one loads it, which takes seconds."""
    script = """
import sys, torch
from frozen_vqa.pipeline.model.config import FUSIONS, ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel
shapes = dict(vision_dim=8, text_dim=8, grid=(2, 2), answers=3, width=8, heads=2, layers=2)
for fusion in FUSIONS:
    for deep in (False, True):
        with torch.device("meta"):
            VqaModel(ModelConfig(fusion=fusion, text_self_attention=deep, **shapes))
print(sorted({"sympy", "torch._dynamo"} & sys.modules.keys()))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
