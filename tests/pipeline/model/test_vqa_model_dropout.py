"""What training drops: other hidden numbers for each question, but where docs/heads.md says so."""

from itertools import product
from typing import Any, get_args

import torch

from frozen_vqa.pipeline.model.config import FUSIONS, POOLINGS, Merge, ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel

PICTURES, SLOTS, TOKENS, GRID = 300, 2, 3, (1, 2)
ATTENTION = ("co-attention", "text-to-image")
HEADS: list[dict[str, Any]] = [
    {"fusion": fusion, "pooling": pooling} for fusion, pooling in product(FUSIONS, POOLINGS)
]
"""Without attention only the answer head drops; else it stays linear, so that it cannot help."""
HEADS += [
    {
        "fusion": fusion,
        "pooling": pooling,
        "merge": merge,
        "layers": layers,
        "post_norm": post_norm,
        "text_self_attention": self_attention,
        "answer_head": "linear",
    }
    for fusion, pooling, merge, layers, post_norm, self_attention in product(
        ATTENTION, POOLINGS, get_args(Merge), (1, 2), (False, True), (False, True)
    )
]


def shares_draws(settings: dict[str, Any]) -> bool:
    """Whether the questions of a picture share what they do before they are pooled."""
    shares = settings["fusion"] == "text-to-image" and "layers" in settings
    shares = shares and not settings["text_self_attention"]
    return shares and (settings["layers"] > 1 or settings["post_norm"])


def test_each_question_has_a_draw_of_its_own() -> None:
    """The logits of equal questions about one picture vary, and not together."""
    for settings in HEADS:
        torch.manual_seed(3)
        shapes = {"vision_dim": 4, "text_dim": 4, "grid": GRID, "answers": 1}
        head = VqaModel(ModelConfig(**shapes, width=4, heads=2, dropout=0.5, **settings)).train()
        logits = head(
            torch.randn(1, 2, 4).expand(PICTURES, -1, -1),
            torch.randn(TOKENS, 4),
            torch.ones(PICTURES, SLOTS, TOKENS, dtype=torch.bool),
            picture_prefixes=torch.arange(TOKENS).expand(PICTURES, -1),
            token_prefixes=torch.arange(TOKENS).expand(PICTURES, SLOTS, -1),
        )
        one, other = logits.detach().view(PICTURES, SLOTS).T
        together = torch.corrcoef(torch.stack([one, other]))[0, 1]
        assert one.std() > 1e-3, settings
        assert (abs(together) > 0.2) == shares_draws(settings), (settings, together)
