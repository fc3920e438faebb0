"""Stage two: it learns what can be learned, the same way every time, and keeps the best."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import frozen_vqa.pipeline.train.trainer
from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.config import load_config
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.train.loss import soft_target_loss
from frozen_vqa.pipeline.train.optimizer import learning_rate
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made, Row, make_cache
from tests.support.trainings import (
    CPU,
    SMALL,
    gradients_of_an_epoch,
    make_trainer,
    metrics,
    run_training,
    small,
)


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
        f"run: stops early after epoch 5, because none of the last {patience} was better than "
        f"epoch {best}\n"
    )
    assert (said in capsys.readouterr().err) == (epochs < 6)


def nan_from_call(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    calls = 0
    loss: Callable[[Tensor, Tensor], Tensor] = soft_target_loss

    def sabotaged(logits: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return loss(logits, targets) * (float("nan") if calls >= first else 1)

    monkeypatch.setattr(frozen_vqa.pipeline.train.trainer, "soft_target_loss", sabotaged)


def test_a_loss_that_is_not_finite_ends_the_run(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    weights = fake_accuracies(monkeypatch, [30, 20, 10])
    batches = len(list(gradients_of_an_epoch(scenes, monkeypatch)))
    nan_from_call(monkeypatch, batches + 2)  # in the midst of the second epoch

    message = (
        r"loss of epoch 2 is not finite; the best weights so far are kept\. Lower --lr \(it is 0.01"
    )
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
    with pytest.raises(RunError, match="loss of epoch 1 is not finite; no weights were kept"):
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
    evaluate(load_run(run, CPU), FeatureCache(scenes.directory), "val")
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
    with pytest.raises(RunError, match=r"this is no folder, and a run needs one"):
        run_training(scenes, tmp_path / "file" / "run")


def test_what_a_run_holds(scenes: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = run_training(scenes, run)

    names = {"answers.json", "config.json", "config.toml", "metrics.jsonl", "run.json"}
    names |= {"environment.json", "README.md", ".frozen-vqa", ".lock"}
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
    manifest = FeatureCache(scenes.directory).manifest
    assert outcome == {
        "cache": str(scenes.directory),
        "metric": "2021",
        "dataset": None,
        "splits": {name: table.xxh3 for name, table in manifest.splits.items() if name != "test"},
        **result.to_json(),
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
    waited, seconds = (sum(line[name] for line in lines) for name in ("waited", "seconds"))
    assert result.data_wait_fraction == pytest.approx(waited / seconds, abs=0.01)


def test_the_best_accuracy_is_that_of_the_kept_weights(scenes: Made, tmp_path: Path) -> None:
    result = run_training(scenes, tmp_path / "run")
    run, split = load_run(tmp_path / "run", CPU), FeatureCache(scenes.directory).split("val")
    scores = class_scores(split.answers, run.vocabulary, metric=METRICS["2021"])
    reader = make_trainer(scenes).val_reader
    (predicted,) = predict([run.model], reader, split, batch_size=9)
    assert 100 * scores.score(predicted).mean() == pytest.approx(result.best_accuracy, abs=0.005)


def test_data_sets_with_one_answer_a_question_train(tmp_path: Path) -> None:
    rows = [Row(i % 3, i % 2, ("red" if i % 2 else "blue",)) for i in range(12)]
    made = make_cache(tmp_path / "cache", {"train": rows, "val": rows[:5]})
    result = run_training(made, tmp_path / "run", epochs=8, fusion="question-only")
    assert result.best_accuracy == 100
    assert json.loads((tmp_path / "run" / "run.json").read_text())["metric"] == "plain"
