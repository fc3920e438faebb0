"""Stage two: it learns what can be learned, the same way every time, and keeps the best."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import Made, Row, make_cache, make_scenes, make_spec
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

import pipeline.trainer
from cache import CacheError, FeatureCache
from pipeline.answers import build_vocabulary, class_scores
from pipeline.batches import FeatureBatch
from pipeline.config import TrainConfig, load_config
from pipeline.errors import RunError
from pipeline.features import Features
from pipeline.model import Fusion, VqaModel
from pipeline.optimizer import build_optimizer, learning_rate, soft_target_loss
from pipeline.order import Order, plan_batches
from pipeline.predict import batch_logits, predict
from pipeline.runs import load_run
from pipeline.train import train
from pipeline.train_data import TrainData
from pipeline.trainer import Trainer, build_trainer
from pipeline.training import TrainResult

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
    features = Features(cache, device=CPU)
    data = TrainData(cache, splits, vocabulary, "2021")
    return build_trainer(features, data, config=small(**changes))


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_co_attention_learns_what_needs_both_sides(scenes: Made, tmp_path: Path) -> None:
    """Concatenation of averages cannot: two of the four kinds of pictures look alike to it."""
    assert run_training(scenes, tmp_path / "attention", epochs=12).best_accuracy == 100
    assert run_training(scenes, tmp_path / "concat", epochs=12, fusion="concat").best_accuracy < 90


@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "plain"])
def test_the_same_seed_gives_the_same_weights(grouped: bool, scenes: Made, tmp_path: Path) -> None:
    for run in ("one", "two"):
        run_training(scenes, tmp_path / run, group_by_image=grouped)
        torch.rand(3)  # the state of the generator outside does not matter
    run_training(scenes, tmp_path / "other", group_by_image=grouped, seed=1)

    one, two, other = (
        (tmp_path / run / "model.safetensors").read_bytes() for run in ("one", "two", "other")
    )
    assert one == two
    assert one != other
    same = ("epoch", "loss", "accuracy")
    assert [[line[key] for key in same] for line in metrics(tmp_path / "one")] == [
        [line[key] for key in same] for line in metrics(tmp_path / "two")
    ]


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


def test_the_loss_is_summed_over_answers_and_averaged_over_questions() -> None:
    logits, targets = (
        torch.tensor([[0.0, 2.0], [-1.0, 0.0], [3.0, 0.0]]),
        torch.tensor([[0.3, 1.0], [0.0, 0.0], [1.0, 0.6]]),
    )
    by_hand = sum(
        -t * math.log(1 / (1 + math.exp(-x))) - (1 - t) * math.log(1 - 1 / (1 + math.exp(-x)))
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
        for x, t in zip(row, target, strict=True)
    )
    assert soft_target_loss(logits, targets).item() == pytest.approx(by_hand / 3, abs=1e-6)


def test_the_loss_of_an_epoch_is_a_mean_over_questions(scenes: Made) -> None:
    """With a rate too small to change anything, batches of any size give the same mean."""
    losses = [
        make_trainer(scenes, dropout=0.0, lr=1e-12, batch_size=batch_size).epoch(0)
        for batch_size in (128, 9)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_learning_rate() -> None:
    config = small(lr=0.5, warmup=0.25)
    rates = [learning_rate(step, steps=20, config=config) for step in range(20)]

    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates[5] == 0.5  # the cosine begins at its top,
    assert rates[10] == pytest.approx(0.375)  # (1 + cos 60°) / 2
    assert all(a > b > 0 for a, b in pairwise(rates[5:]))  # falls all the way,
    assert rates[-1] < 0.01  # and ends near zero
    assert learning_rate(20, steps=20, config=config) == pytest.approx(0)
    assert learning_rate(23, steps=20, config=config) == pytest.approx(0)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_learning_rate_at_its_limits(warmup: float, steps: int) -> None:
    config = small(lr=0.5, warmup=warmup)
    rates = [learning_rate(step, steps=steps, config=config) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert (rates[-1] if warmup else rates[0]) == 0.5


def test_the_schedule_is_that_of_the_steps(scenes: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(scenes, batch_size=16, accumulate=3, group_by_image=False, epochs=2)
    rates: list[float] = []
    step = trainer.optimizer.step

    def spy() -> None:
        rates.extend({group["lr"] for group in trainer.optimizer.param_groups})
        step()

    monkeypatch.setattr(trainer.optimizer, "step", spy)
    for number in range(2):
        trainer.epoch(number)

    assert trainer.steps == trainer.step == 6  # 8 batches an epoch, three to a step
    assert rates == [learning_rate(i, steps=6, config=trainer.config) for i in range(6)]


@pytest.mark.parametrize(
    ("fusion", "layers", "reached"),
    [
        ("co-attention", 1, 0.1),
        ("co-attention", 3, 0.1),
        ("text-to-image", 1, 0.1),
        ("concat", 1, 1.0),
        ("question-only", 1, 1.45),  # 2 ln 2 is the least that these questions alone allow
        ("image-only", 1, 1.0),
    ],
)
def test_three_times_the_default_rate(
    fusion: Fusion, layers: int, reached: float, scenes: Made
) -> None:
    """Warm-up and clipping hold it from the first step: never far above the loss of a guess."""
    rate = 3 * TrainConfig().lr
    how: dict[str, Any] = {"fusion": fusion, "layers": layers, "text_self_attention": layers > 1}
    sizes: dict[str, Any] = {"width": 64, "heads": 4, "batch_size": 16, "epochs": 6}
    trainer = make_trainer(scenes, lr=rate, **how, **sizes)
    losses = [trainer.epoch(number) for number in range(6)]
    assert max(losses) < 2
    assert losses[-1] < min(reached, losses[0])


def test_gradients_are_clipped(scenes: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(scenes, clip=0.001)
    norms: list[float] = []

    def spy() -> None:
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    monkeypatch.setattr(trainer.optimizer, "step", spy)
    trainer.epoch(0)
    assert norms
    assert norms == pytest.approx([0.001] * len(norms), rel=1e-3)


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
    plans: list[Order] = []
    modes: set[bool] = set()
    batches = trainer.train_reader.batches

    def spy(plan: Order) -> Iterator[FeatureBatch]:
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


def test_only_matrices_decay(scenes: Made) -> None:
    trainer = make_trainer(scenes, weight_decay=0.1)
    model, optimizer = trainer.model, build_optimizer(trainer.model, trainer.config)

    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    matrices = {name for name, p in before.items() if p.ndim > 1 and "place" not in name}
    assert decayed == matrices
    assert {"text_projection.linear.weight", "head.weight"} <= matrices
    assert "head.bias" not in matrices


def fake_accuracies(
    monkeypatch: pytest.MonkeyPatch, values: list[float]
) -> list[dict[str, Tensor]]:
    """Let each epoch score one of `values`; return the list of what the weights then were."""
    weights: list[dict[str, Tensor]] = []
    remaining: Iterator[float] = iter(values)

    def accuracy(self: Trainer) -> float:
        weights.append({k: v.clone() for k, v in self.model.state_dict().items()})
        return next(remaining)

    monkeypatch.setattr(Trainer, "accuracy", accuracy)
    return weights


def assert_weights(run: Path, expected: dict[str, Tensor]) -> None:
    found = load_file(run / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("accuracies", "best"), [([10, 50, 20], 1), ([10, 20, 30], 2), ([40, 40, 0], 0), ([0, 0, 0], 0)]
)
def test_the_best_weights_are_kept(
    accuracies: list[float],
    best: int,
    scenes: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = fake_accuracies(monkeypatch, accuracies)

    result = run_training(scenes, tmp_path / "run")

    assert (result.best_epoch, result.best_accuracy) == (best + 1, accuracies[best])
    assert_weights(tmp_path / "run", weights[best])
    assert [line["accuracy"] for line in metrics(tmp_path / "run")] == accuracies


@pytest.mark.parametrize(
    ("accuracies", "patience", "epochs", "best"),
    [
        ([50, 10, 60, 20, 60, 90], 2, 5, 3),  # as good is not better
        ([50, 10, 60, 20, 60, 90], 3, 6, 6),
        ([10, 20, 30, 40, 50, 40], 1, 6, 5),  # all of them, and nothing to say
        ([90, 10, 20, 30, 40, 50], 0, 6, 1),
    ],
)
def test_patience_ends_a_training(
    accuracies: list[float],
    patience: int,
    epochs: int,
    best: int,
    scenes: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    weights = fake_accuracies(monkeypatch, accuracies)
    result = run_training(scenes, run, epochs=6, patience=patience, fusion="concat")
    assert (result.epochs, result.best_epoch) == (epochs, best)
    assert_weights(run, weights[best - 1])
    assert len(metrics(run)) == epochs
    said = (
        f"run: ends after epoch 5, for none of the last {patience} was better than epoch {best}\n"
    )
    assert (said in capsys.readouterr().err) == (epochs < 6)


def nan_from_call(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    calls = 0
    loss: Callable[[Tensor, Tensor], Tensor] = soft_target_loss

    def sabotaged(logits: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return loss(logits, targets) * (float("nan") if calls >= first else 1)

    monkeypatch.setattr(pipeline.trainer, "soft_target_loss", sabotaged)


def test_a_loss_that_is_not_finite_ends_the_run(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    weights = fake_accuracies(monkeypatch, [30, 20, 10])
    batches = len(list(gradients_of_an_epoch(scenes, monkeypatch)))
    nan_from_call(monkeypatch, batches + 2)  # in the midst of the second epoch

    message = r"loss of epoch 2 is nan; the best weights so far are kept\. Lower --lr \(it is 0.01"
    with pytest.raises(RunError, match=message):
        run_training(scenes, run)

    assert len(weights) == 1
    assert_weights(run, weights[0])
    assert all(tensor.isfinite().all() for tensor in weights[0].values())
    assert len(metrics(run)) == 1
    assert load_run(run, CPU).vocabulary.answers == ("blue", "red")


def test_a_loss_that_was_never_finite_leaves_no_weights(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan_from_call(monkeypatch, 1)
    with pytest.raises(RunError, match="loss of epoch 1 is nan; no weights were kept"):
        run_training(scenes, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(RunError, match="there are no weights yet"):
        load_run(tmp_path / "run", CPU)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"val_split": "test"}, "2 of 2 questions of split 'test' have no answers"),
        ({"train_split": "test"}, "2 of 2 questions of split 'test' have no answers"),
        ({"val_split": "nope"}, "there is no split 'nope'.*splits: train, val, test"),
    ],
)
def test_a_split_without_answers_is_refused(
    splits: dict[str, str], message: str, scenes: Made, tmp_path: Path
) -> None:
    with pytest.raises(CacheError, match=message):
        run_training(scenes, tmp_path / "run", **splits)
    assert not (tmp_path / "run").exists()


def test_a_split_without_questions_is_refused(tmp_path: Path) -> None:
    made = make_cache(tmp_path / "cache", {"train": [Row(0, 0, ("red",))], "val": []})
    with pytest.raises(CacheError, match="split 'val' has no questions"):
        run_training(made, tmp_path / "run")


def test_a_run_that_is_there_is_refused(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_training(scenes, run, epochs=1)
    (run / "evaluation" / "val").mkdir(parents=True)
    (run / "evaluation" / "val" / "results.json").write_text("[]")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    with pytest.raises(RunError, match=r"there is a run in this folder already\. .*--overwrite"):
        run_training(scenes, run, epochs=2)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    config = small(epochs=2, seed=5)
    train(scenes.directory, run, config=config, device=CPU, overwrite=True)
    assert len(metrics(run)) == 2
    assert load_config(run / "config.toml", {}).seed == 5
    assert (run / "model.safetensors").read_bytes() != before[run / "model.safetensors"]
    # What the old weights answered would pass for the answers of the new ones.
    assert not (run / "evaluation").exists()


def test_a_run_that_cannot_be_written(scenes: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .* give another --run"):
        run_training(scenes, tmp_path / "file" / "run")


def test_what_a_run_holds(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = run_training(scenes, run)

    names = {"answers.json", "config.json", "config.toml", "metrics.jsonl", "run.json"}
    names |= {"environment.json", "README.md"}
    weights = {"model.safetensors", "model.previous.safetensors"}
    found = {path.name for path in run.iterdir()}
    assert names | {"model.safetensors"} <= found <= names | weights
    assert load_config(run / "config.toml", {}) == SMALL
    assert json.loads((run / "answers.json").read_text()) == ["blue", "red"]
    description = json.loads((run / "config.json").read_text())
    assert description["encoders"]["vision"] == {"model": "made-up-vision", "image size": 28}
    assert description["model"]["answers"] == 2
    outcome = json.loads((run / "run.json").read_text())
    assert len(outcome.pop("xxh3")) == 32
    assert outcome == {
        "cache": str(scenes.directory),
        "metric": "2021",
        "dataset": None,
        **asdict(result),
    }


def test_metrics_and_result(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = run_training(scenes, run, epochs=4)

    lines = metrics(run)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    times = {"seconds", "questions_per_second", "waited"}
    assert all(
        line.keys() == {"epoch", "loss", "accuracy", "learning_rate"} | times for line in lines
    )
    for line in lines:
        assert 0 <= line["waited"] <= line["seconds"]
        assert line["questions_per_second"] * line["seconds"] == pytest.approx(128, rel=0.05)
    rates = [learning_rate(6 * i + 5, steps=24, config=small()) for i in range(4)]
    assert [line["learning_rate"] for line in lines] == rates
    assert lines[-1]["loss"] < lines[0]["loss"]
    accuracies = [line["accuracy"] for line in lines]
    assert result.best_accuracy == pytest.approx(max(accuracies), abs=0.005)
    assert result.best_epoch == 1 + accuracies.index(max(accuracies))
    assert (result.run, result.fusion, result.epochs) == (str(run), "co-attention", 4)
    parameters = load_file(run / "model.safetensors").values()
    assert result.trainable_parameters == sum(tensor.numel() for tensor in parameters)
    assert 0 <= result.data_wait_fraction <= 1


def test_the_best_accuracy_is_that_of_the_kept_weights(scenes: Made, tmp_path: Path) -> None:
    result = run_training(scenes, tmp_path / "run")
    run, split = load_run(tmp_path / "run", CPU), FeatureCache(scenes.directory).split("val")
    scores = class_scores(split.answers, run.vocabulary, rules="2021")
    reader = make_trainer(scenes).val_reader
    predicted = predict(run.model, reader, split, batch_size=9)
    assert 100 * scores.score(predicted).mean() == pytest.approx(result.best_accuracy, abs=0.005)


def test_predictions_stand_in_the_order_of_the_split(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batches; and dropout is off while predicting, though the head was training."""
    trainer = make_trainer(scenes, dropout=0.5)
    split = trainer.val_split
    trainer.model.train()
    predicted = [
        predict(trainer.model, trainer.val_reader, split, batch_size=n).tolist() for n in (1, 2, 64)
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


def test_data_sets_with_one_answer_a_question_train(tmp_path: Path) -> None:
    rows = [Row(i % 3, i % 2, ("red" if i % 2 else "blue",)) for i in range(12)]
    made = make_cache(tmp_path / "cache", {"train": rows, "val": rows[:5]})
    result = run_training(made, tmp_path / "run", epochs=8, fusion="question-only")
    assert result.best_accuracy == 100
    assert json.loads((tmp_path / "run" / "run.json").read_text())["metric"] == "plain"


def test_an_untrained_model_depends_on_the_seed_alone(scenes: Made) -> None:
    models: list[VqaModel] = [make_trainer(scenes, seed=seed).model for seed in (0, 0, 1)]
    one, two, other = (model.head.weight for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
