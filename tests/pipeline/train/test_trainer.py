"""What a trainer computes in an epoch, and in scoring after it, whatever the batches."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import BatchPlan, plan_batches
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import batch_logits, predict
from tests.support.caches import Made, make_cache, make_scenes, make_spec
from tests.support.trainings import gradients_of_an_epoch, make_trainer


def test_two_accumulated_halves_are_one_batch(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both see the same questions; 128 are all of them."""
    (whole,) = gradients_of_an_epoch(scenes, monkeypatch, batch_size=128)
    (halves,) = gradients_of_an_epoch(scenes, monkeypatch, batch_size=64, accumulate=2)
    for one, other in zip(whole, halves, strict=True):
        assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "grouped", "updates"),
    [(48, 1, False, 3), (32, 3, False, 2), (50, 2, True, 2), (10, 4, True, 4)],
)
def test_each_question_counts_the_same(
    batch_size: int,
    accumulate: int,
    grouped: bool,
    updates: int,
    scenes: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a small batch too, and in a step of fewer batches at the end of an epoch."""
    (whole,) = gradients_of_an_epoch(scenes, monkeypatch, batch_size=128)
    steps = gradients_of_an_epoch(
        scenes,
        monkeypatch,
        batch_size=batch_size,
        accumulate=accumulate,
        group_by_image=grouped,
    )
    assert len(steps) == updates
    for parts, one in zip(zip(*steps, strict=True), whole, strict=True):
        total = sum(parts) * batch_size * accumulate / 128
        assert_close(total, one, atol=1e-5, rtol=0)


def test_the_loss_of_an_epoch_is_a_mean_over_questions(scenes: Made) -> None:
    """With a rate too small to change anything, batches of any size give the same mean."""
    losses = [
        make_trainer(scenes, dropout=0.0, lr=1e-12, batch_size=batch_size).epoch(0)
        for batch_size in (128, 9)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_step_knows_nothing_of_the_gradients_before_it(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without steps to speak of, each epoch of one batch has the same gradient."""
    trainer = make_trainer(scenes, dropout=0.0, batch_size=128, clip=1e9)
    gradients: list[Tensor] = []

    def spy() -> None:
        assert trainer.model.head.weight.grad is not None
        gradients.append(trainer.model.head.weight.grad.clone())

    monkeypatch.setattr(trainer.optimizer, "step", spy)
    for number in range(3):
        trainer.epoch(number)
    assert_close(gradients[1], gradients[0], atol=1e-5, rtol=0)
    assert_close(gradients[2], gradients[0], atol=1e-5, rtol=0)


def test_each_epoch_has_its_own_order_and_dropout(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring between two epochs leaves no trace."""
    trainer = make_trainer(scenes, order_seed=3)
    plans: list[BatchPlan] = []
    modes: set[bool] = set()
    batches = trainer.train_reader.batches

    def spy(plan: BatchPlan) -> Iterator[FeatureBatch]:
        plans.append(plan)
        for batch in batches(plan):
            modes.add(trainer.model.training)
            yield batch

    monkeypatch.setattr(trainer.train_reader, "batches", spy)
    for number in range(2):
        trainer.epoch(number)
        trainer.accuracy()

    assert modes == {True}
    rows = trainer.train_split.image_rows
    for number, plan in enumerate(plans):
        expected = plan_batches(rows, batch_size=24, grouped=True, shuffle=(3, number))
        assert [[e.tolist() for e in grid] for grid in plan] == [
            [e.tolist() for e in grid] for grid in expected
        ]


def test_predictions_stand_in_the_order_of_the_split(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batches; and dropout is off while predicting, though the head was training."""
    trainer = make_trainer(scenes, dropout=0.5)
    split = trainer.val_split
    trainer.model.train()
    predicted = [
        predict([trainer.model], trainer.val_reader, split, batch_size=n)[0].tolist()
        for n in (1, 2, 64)
    ]
    assert predicted[0] == predicted[1] == predicted[2]
    assert not trainer.model.training

    cache = FeatureCache(scenes.directory)
    for row, answer in enumerate(predicted[0]):
        states = torch.from_numpy(cache.questions.states(int(split.question_rows[row])))
        image = scenes.patch_embeddings[split.image_rows[row]]
        mask = torch.ones(1, 1, len(states), dtype=torch.bool)
        logits = trainer.model(torch.from_numpy(image)[None], states[None, None], mask)
        assert int(logits.argmax()) == answer


def test_integers_train_as_the_floats_that_they_stand_for(tmp_path: Path) -> None:
    int8 = make_scenes(tmp_path / "int8", train=24, val=8, spec=make_spec(dtype="int8"))
    floats = make_cache(
        tmp_path / "floats",
        int8.splits,
        patch_embeddings=int8.patch_embeddings,
        states=int8.states,
        spec=make_spec(dtype="float32"),
    )
    losses, logits, accuracies = [], [], []
    for made in (int8, floats):
        trainer = make_trainer(made, dropout=0.5, precision="float32")
        losses.append(trainer.epoch(0))
        accuracies.append(trainer.accuracy())
        plan = plan_batches(trainer.val_split.image_rows, batch_size=64, grouped=True, shuffle=None)
        (batch,) = trainer.val_reader.batches(plan)
        with torch.inference_mode():
            logits.append(batch_logits(trainer.model, batch))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert accuracies[0] == accuracies[1]
    assert_close(*logits, atol=1e-5, rtol=0)


def test_a_restored_trainer_continues_from_tensors_and_counters(scenes: Made) -> None:
    """With dropout and an average, as often as it is restored; what it takes does not change."""
    one, other = (make_trainer(scenes, dropout=0.5, ema=0.9, seed=seed) for seed in (0, 1))
    one.epoch(0)
    tensors, counters = {name: t.clone() for name, t in one.tensors().items()}, one.counters
    before = replace(counters)
    assert (before.epoch, before.batch, before.step) == (0, 6, 6)
    assert before.epoch_seconds >= before.waited > 0
    losses = []
    for _ in range(2):
        other.restore(tensors, counters)
        losses.append(other.epoch(1))
        assert (other.counters.epoch, other.counters.batch, other.counters.step) == (1, 6, 12)
        assert other.counters.waited > before.waited
        assert counters == before
    torch.set_rng_state(tensors["rng.cpu"])
    assert losses[0] == losses[1] == one.epoch(1)


def test_an_untrained_model_depends_on_the_seed_alone(scenes: Made) -> None:
    models: list[VqaModel] = [make_trainer(scenes, seed=seed).model for seed in (0, 0, 1)]
    one, two, other = (model.head.weight for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
