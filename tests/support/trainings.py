"""Small trainings, and one epoch of them as its gradients."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.vocabulary import build_vocabulary
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.train.data import TrainData
from frozen_vqa.pipeline.train.loop import TrainResult
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made

CPU = torch.device("cpu")
SMALL = TrainConfig(width=16, heads=2, lr=0.01, batch_size=24, epochs=3, min_answer_count=1)


def small(**changes: object) -> TrainConfig:
    return replace(SMALL, **changes)  # type: ignore[arg-type]


def run_training(made: Made, run: Path, **changes: object) -> TrainResult:
    return train(made.directory, run, config=small(**changes), device=CPU)


def make_trainer(made: Made, **changes: object) -> Trainer:
    cache = FeatureCache(made.directory)
    splits = {name: cache.split(name) for name in ("train", "val")}
    vocabulary = build_vocabulary(splits["train"].answers, min_count=1)
    features = ResidentFeatures(cache, device=CPU)
    data = TrainData(cache, splits, vocabulary, METRICS["2021"])
    return Trainer(features, data, config=small(**changes))


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def gradients_of_an_epoch(
    made: Made, monkeypatch: pytest.MonkeyPatch, **changes: object
) -> list[list[Tensor]]:
    """Return the gradients of each step of an epoch in which no step is made."""
    trainer = make_trainer(made, dropout=0.0, precision="float32", **changes)
    trainer.model.double()
    steps: list[list[Tensor]] = []

    def record(self: Trainer) -> None:
        gradients = [p.grad for p in self.model.parameters()]
        assert all(gradient is not None for gradient in gradients)
        steps.append([gradient.clone() for gradient in gradients if gradient is not None])
        self.optimizer.zero_grad(set_to_none=True)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", record)
        trainer.epoch(0)
    return steps
