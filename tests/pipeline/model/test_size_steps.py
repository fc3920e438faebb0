"""What a step is said to keep for its backward pass is what a step keeps."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from frozen_vqa.pipeline.config import PRESETS, make_config
from frozen_vqa.pipeline.model.config import FUSIONS
from frozen_vqa.pipeline.model.size import bytes_for_backward
from frozen_vqa.pipeline.model.vqa_model import VqaModel

IMAGES, SLOTS, TOKENS = 3, 2, 5
SLOW = pytest.mark.slow
KINDS: dict[str, dict[str, Any]] = {
    **{fusion: {"fusion": fusion} for fusion in FUSIONS},
    **{f"preset {name}": {"preset": name} for name in PRESETS},
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=SLOW)])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "concat" else SLOW) for kind in KINDS]
)
def test_a_step_keeps_what_was_reckoned(kind: str, dtype: torch.dtype) -> None:
    config = make_config({**KINDS[kind], "dropout": 0.1})
    config = replace(config, width=16, heads=2, precision="float32")
    shape = config.with_shapes(vision_dim=24, text_dim=32, grid=(2, 3), answers=7, pictures=1)
    sizes = {"images": IMAGES, "slots": SLOTS, "tokens": TOKENS}
    state = torch.get_rng_state()
    reckoned = bytes_for_backward(shape, **sizes, dtype=dtype)
    assert torch.equal(torch.get_rng_state(), state)
    kept = kept_by_a_step(VqaModel(shape).train(), dtype)
    assert reckoned == pytest.approx(kept, rel=0.05)  # a kernel may keep its own sums
    more = bytes_for_backward(shape, **{**sizes, "images": 2 * IMAGES}, dtype=dtype)
    assert 1.5 * reckoned < more <= 2 * reckoned


def kept_by_a_step(head: VqaModel, dtype: torch.dtype) -> int:
    """Make a real forward pass, and count the memory that its graph holds."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    config, rows = head.config, IMAGES * SLOTS * TOKENS
    prefixes = torch.arange(SLOTS * TOKENS).repeat(IMAGES, 1)
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        logits = head(
            torch.randn(IMAGES, math.prod(config.grid), config.vision_dim).half(),
            torch.randn(rows, config.text_dim).half(),
            torch.ones(IMAGES, SLOTS, TOKENS, dtype=torch.bool),
            picture_prefixes=torch.arange(rows).reshape(IMAGES, -1),
            token_prefixes=prefixes.reshape(IMAGES, SLOTS, TOKENS),
            question_slots=torch.arange(IMAGES * SLOTS),
        )
    logits.sum().backward()
    for parameter in head.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(kept.values())
