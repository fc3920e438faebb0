"""Run folders with random weights, for tests that need a head but no training."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.model.config import Fusion, ModelConfig
from frozen_vqa.pipeline.model.pooling import Pooling
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.runs.run import read_digests, start_run
from frozen_vqa.pipeline.runs.weights import Weights, load_weights, save_weights
from tests.support.caches import Made

VOCABULARY = Vocabulary(("red", "größe", "2"))


def make_run(
    made: Made,
    path: Path,
    *,
    fusion: Fusion = "co-attention",
    vocabulary: Vocabulary = VOCABULARY,
    seed: int = 7,
    train_split: str = "train",
) -> VqaModel:
    """Write a run and return its model, in eval mode."""
    torch.manual_seed(seed)
    cache = FeatureCache(made.directory)
    spec = cache.spec
    shapes = ModelConfig(
        vision_dim=spec.vision_dim,
        text_dim=spec.text_dim,
        grid=spec.grid,
        answers=len(vocabulary),
        fusion=fusion,
        width=8,
        heads=2,
        layers=2,
    )
    model = with_scores(VqaModel(shapes))
    files = start_run(
        path,
        config=TrainConfig(
            fusion=fusion,
            width=8,
            heads=2,
            layers=2,
            epochs=3,
            seed=seed,
            train_split=train_split,
        ),
        model=shapes,
        vocabulary=vocabulary,
        cache=cache,
        overwrite=False,
    )
    save_weights(path, Weights(model.state_dict(), epoch=1, accuracy=25.0, files=files))
    return model.eval()


def seal(path: Path) -> None:
    """Save a run's weights anew, with the digests of its files as they are now."""
    save_weights(path, replace(load_weights(path), files=read_digests(path)))


def with_scores(model: VqaModel) -> VqaModel:
    """Let attention pooling be of different weights: an untrained head's are all the same."""
    for module in model.modules():
        if isinstance(module, Pooling) and module.score is not None:
            nn.init.normal_(module.score.weight)
    return model
