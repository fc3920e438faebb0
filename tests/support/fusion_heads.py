"""Heads of every kind, and two pictures with four questions for them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.pipeline.model.config import FUSIONS, Fusion, ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from tests.support.heads import with_scores

IMAGES, SLOTS, TOKENS, GRID, PATCHES = 2, 3, 4, (2, 3), 6
CONFIG = ModelConfig(
    vision_dim=5, text_dim=7, grid=GRID, answers=9, width=8, heads=2, layers=1, dropout=0.5
)
LENGTHS = torch.tensor([[2, 4, 1], [3, 0, 0]])  # the second picture has one question
ATTENTION: tuple[Fusion, ...] = ("co-attention", "text-to-image")
MEAN = {"pooling": "mean"}
TWO = {"pictures": 2, "grid": (1, 3)}  # as many patches as one picture of `GRID`
ALL = {"text_self_attention": True, "merge": "gated"}
HEADS: dict[str, dict[str, Any]] = {
    **{fusion: {"fusion": fusion} for fusion in FUSIONS},
    **{f"{fusion}, mean": {"fusion": fusion, **MEAN} for fusion in FUSIONS},
    **{f"{f}, {n} layers": {"fusion": f, "layers": n} for f in ATTENTION for n in (2, 3)},
    **{f"{name}={value}": {name: value} for name, value in ALL.items()},
    "no position embedding, linear": {"position_embedding": False, "answer_head": "linear"},
    "post-norm": {"post_norm": True, "layers": 2},
    **{f"{fusion}, two pictures": {"fusion": fusion, **TWO} for fusion in FUSIONS},
    "post-norm, mean, text-to-image": {"post_norm": True, "fusion": "text-to-image", **MEAN},
    "all": {"layers": 2, "feature_dropout": 0.5, **ALL},
    "all, mean": {"layers": 2, "feature_dropout": 0.5, **ALL, **MEAN},
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
Batch = tuple[Tensor, Tensor, Tensor]
"""Patch embeddings, hidden states, attention mask."""


def make_model(fusion: Fusion = "co-attention", **changes: Any) -> VqaModel:
    torch.manual_seed(1)
    return with_scores(VqaModel(replace(CONFIG, fusion=fusion, **changes)).eval())


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    patches = torch.randn(IMAGES, PATCHES, CONFIG.vision_dim, generator=generator)
    states = torch.randn(IMAGES, SLOTS, TOKENS, CONFIG.text_dim, generator=generator)
    return patches, states, torch.arange(TOKENS) < LENGTHS[..., None]


def assert_same(got: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    assert_close(got, expected, atol=tolerance, rtol=0)
