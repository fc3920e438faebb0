"""The caches of the step benchmark, and what a training takes from one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.generated import write_cache
from frozen_vqa.cache import CacheSpec
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.config import TrainConfig, load_config
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.system.device import keep_freed_memory, use_cores
from frozen_vqa.pipeline.train.data import TrainData, load_train_data
from frozen_vqa.pipeline.train.trainer import Trainer, build_untrained_head

EASY_VQA = Path(__file__).parents[2] / "examples" / "easy_vqa.toml"

GRID, VISION_DIM, TEXT_DIM = (16, 16), 768, 2048
"""DINOv2-base at 224 pixels and Llama-3.2-1B."""

ANSWERS = 3129
"""The usual vocabulary of VQAv2."""

QUESTIONS_PER_PICTURE, KEPT = 6, 0.9
"""Questions that are generated, and the share of them that is asked: 5.4 a picture as in VQAv2."""


def load_data(directory: Path, config: TrainConfig, *, kept: float = 1.0) -> TrainData:
    """Open a cache as `pipeline.train.train` does.

    Args:
        directory: Of the cache.
        config: Names the splits and what becomes an answer.
        kept: Share of the training questions that are asked, drawn from a fixed seed.
    """
    data = load_train_data(directory, config)
    if kept == 1:
        return data
    train = data.splits[config.train_split]
    drawn = np.random.default_rng(0).random(len(train)) < kept
    fewer = {config.train_split: train.take(np.flatnonzero(drawn))}
    return replace(data, splits={**data.splits, **fewer})


def new_trainer(data: TrainData, config: TrainConfig, device: torch.device) -> Trainer:
    """Return a trainer of ours before its first step, and set this process up for it."""
    keep_freed_memory()
    use_cores()
    features = ResidentFeatures(data.cache, residency="auto", device=device)
    return Trainer(features, data, config=config)


def first_head(data: TrainData, config: TrainConfig) -> VqaModel:
    """Return the head with the first weights that our trainer has for this seed."""
    return build_untrained_head(data, config)


def easy_vqa_config() -> TrainConfig:
    """Return the settings of `examples/easy_vqa.toml`."""
    return load_config(EASY_VQA, {})


def real_rows_config() -> TrainConfig:
    """Return the default head's settings, for caches of `make_real_rows`."""
    return replace(TrainConfig(), min_answer_count=1, top_answers=ANSWERS)


def make_shapes(directory: Path, scenes: int) -> None:
    """Extract generated scenes with the tiny encoders: a small cache without any download."""
    # Imported late, for transformers takes seconds and trainings do without it.
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.extract.extract import extract
    from frozen_vqa.pipeline.extract.plan import make_plan
    from frozen_vqa.pipeline.sources.open_source import open_source

    source = open_source(f"shapes:{scenes}")
    images, text = ImageEncoder("tiny"), TextEncoder("tiny")
    plan = make_plan(source, splits=("train", "test"), text=text)
    extract(source, plan, cache=directory, images=images, text=text)


def make_real_rows(directory: Path, images: int) -> None:
    """Write a cache of generated features in the shapes of the real encoders."""
    spec = CacheSpec(
        vision={"model": "generated"},
        text={"model": "generated"},
        grid=GRID,
        vision_dim=VISION_DIM,
        text_dim=TEXT_DIM,
    )
    write_cache(
        directory,
        images=images,
        questions_per_image=QUESTIONS_PER_PICTURE,
        distinct_questions=3 * images,
        answers=ANSWERS,
        spec=spec,
    )
