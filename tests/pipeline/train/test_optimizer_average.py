"""Averaged weights: what they are, and that they are what a run scores and keeps."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made
from tests.support.trainings import make_trainer, metrics, run_training


def test_the_average_follows_the_weights(scenes: Made) -> None:
    """By hand, with a decay that the first steps do not reach and the later ones do."""
    trainer = make_trainer(scenes, ema=0.4, dropout=0.2)
    expected = {name: w.detach().double() for name, w in trainer.model.named_parameters()}
    decays = []

    def after_step() -> None:
        decays.append(min(0.4, (1 + trainer.counters.step) / (10 + trainer.counters.step)))
        for name, weight in trainer.model.named_parameters():
            expected[name] = decays[-1] * expected[name] + (1 - decays[-1]) * weight.detach()

    trainer.epoch(0, after_step)
    trainer.epoch(1, after_step)
    assert decays[0] == pytest.approx(2 / 11)
    assert decays[-1] == 0.4
    for name, weight in trainer.scored.named_parameters():
        assert_close(weight.double(), expected[name], atol=1e-6, rtol=0)
        assert weight.grad is None
    assert not torch.equal(trainer.scored.head.weight, trainer.model.head.weight)


def test_training_takes_no_notice_of_its_average(scenes: Made) -> None:
    with_average, without = make_trainer(scenes, ema=0.9), make_trainer(scenes)
    assert without.scored is without.model
    for trainer in (with_average, without):
        torch.manual_seed(5)
        trainer.epoch(0)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            with_average.model.parameters(), without.model.parameters(), strict=True
        )
    )


def test_the_average_is_what_is_scored_and_kept(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights themselves are nearly chance after so few steps at this rate."""
    trainers: list[Trainer] = []
    real = Trainer.accuracy

    def accuracy(self: Trainer) -> float:
        trainers.append(self)
        return real(self)

    monkeypatch.setattr(Trainer, "accuracy", accuracy)
    result = run_training(scenes, tmp_path / "run", ema=0.9, epochs=1)
    run, split = load_run(tmp_path / "run", torch.device("cpu")), trainers[0].val_split
    kept, averaged = run.model.state_dict(), trainers[0].scored.state_dict()
    assert all(torch.equal(kept[name], averaged[name]) for name in kept)
    assert not torch.equal(run.model.head.weight, trainers[0].model.head.weight)
    scores = class_scores(
        FeatureCache(scenes.directory).split("val").answers, run.vocabulary, metric=METRICS["2021"]
    )
    (predicted,) = predict([run.model], trainers[0].val_reader, split, batch_size=9)
    assert 100 * scores.score(predicted).mean() == pytest.approx(result.best_accuracy, abs=0.005)
    assert metrics(tmp_path / "run")[0]["accuracy"] == pytest.approx(result.best_accuracy, abs=0.01)
