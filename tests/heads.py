"""Run folders with random weights, for tests that need a head but no training."""

from pathlib import Path

import torch
from caches import GRID, TEXT_DIM, VISION_DIM, Made

from cache import FeatureCache
from pipeline.answers import Vocabulary
from pipeline.config import TrainConfig
from pipeline.model import Fusion, ModelConfig, VqaModel
from pipeline.runs import save_weights, start_run

VOCABULARY = Vocabulary(("red", "größe", "2"))


def make_run(
    made: Made,
    path: Path,
    *,
    fusion: Fusion = "co-attention",
    vocabulary: Vocabulary = VOCABULARY,
    seed: int = 7,
) -> VqaModel:
    """Write a run and return its model, in eval mode."""
    torch.manual_seed(seed)
    shapes = ModelConfig(
        vision_dim=VISION_DIM,
        text_dim=TEXT_DIM,
        grid=GRID,
        answers=len(vocabulary),
        fusion=fusion,
        width=8,
        heads=2,
        layers=2,
    )
    model = VqaModel(shapes)
    start_run(
        path,
        config=TrainConfig(fusion=fusion, width=8, heads=2, layers=2, epochs=3),
        model=shapes,
        vocabulary=vocabulary,
        cache=FeatureCache(made.directory),
        overwrite=False,
    )
    save_weights(path, model)
    return model.eval()
