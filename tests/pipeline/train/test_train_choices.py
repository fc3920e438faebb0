"""Heads that score choices: they learn, and every command takes them or says why not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.answers.vocabulary import CHOICES
from frozen_vqa.pipeline.ask.head import VqaHead
from frozen_vqa.pipeline.batches.batch import NO_CHOICE
from frozen_vqa.pipeline.commands.evaluate import evaluate_command
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.evaluate.variants import ensemble
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.train.data import load_train_data
from frozen_vqa.pipeline.train.loss import choice_loss
from frozen_vqa.pipeline.train.train import train
from tests.support.caches import Made, Row, make_cache
from tests.support.several import make_choices
from tests.support.trainings import CPU, run_training, small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_choices(tmp_path_factory.mktemp("choices"))


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "head"
    run_training(made, path, epochs=4)
    return path


def test_a_head_learns_to_choose(made: Made, run: Path) -> None:
    """The file of results names the choice; a guess would score 36 %."""
    found = evaluate(run, split="val", keep_logits=True)
    assert found.accuracy is not None
    assert found.accuracy.overall > 90
    assert found.accuracy.metric == "choice"
    assert found.ceiling == 100
    rows = made.splits["val"]
    chance = np.mean([1 / len(row.choices) for row in rows])
    assert found.accuracy.figures["chance"].value == pytest.approx(100 * chance)
    assert set(found.accuracy.groups["answer_type"]) == {"2", "3", "4"}
    assert found.results is not None
    written = {e["question_id"]: e["answer"] for e in json.loads(found.results.read_text())}
    right = [written[100 + i] == f"choice {r.choices[r.right]}" for i, r in enumerate(rows)]
    assert 100 * np.mean(right) == pytest.approx(found.accuracy.overall)
    assert found.logits is not None
    logits, _, columns = load_logits(found.logits)
    assert list(columns) == ["choice 1", "choice 2", "choice 3", "choice 4"]
    said = [f"choice {row.choices[i]}" for row, i in zip(rows, logits.argmax(1), strict=True)]
    assert said == list(written.values())


def test_the_record_says_that_it_chooses(run: Path) -> None:
    assert json.loads((run / "answers.json").read_text()) == []
    assert json.loads((run / "run.json").read_text())["answers"] == 0
    assert "score the choices" in (run / "README.md").read_text()
    loaded = load_run(run)
    assert loaded.chooses
    assert loaded.vocabulary == CHOICES
    assert VqaHead.from_pretrained(run).config.answers == 1


def test_unknown_right_choices_are_predicted_and_not_scored(made: Made, run: Path) -> None:
    found, scored = evaluate(run, split="test"), evaluate(run, split="val")
    assert found.accuracy is None
    assert list(found.answers) == list(scored.answers)


def test_a_resumed_training_has_the_weights_of_an_undisturbed_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frozen_vqa.pipeline.train.loop import TrainingLoop

    run_training(made, tmp_path / "whole", epochs=2)

    class Killed(Exception):
        pass

    def kill(self: TrainingLoop, loss: float, accuracy: float) -> None:
        end_epoch(self, loss, accuracy)
        raise Killed

    end_epoch = TrainingLoop.end_epoch
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "end_epoch", kill)
        with pytest.raises(Killed):
            run_training(made, tmp_path / "cut", epochs=2)
    train(made.directory, tmp_path / "cut", device=CPU, resume=True)
    mine, other = (load_run(tmp_path / name).model.state_dict() for name in ("cut", "whole"))
    assert all(torch.equal(mine[name], other[name]) for name in other)


def test_what_a_head_of_choices_cannot_do_is_one_sentence(made: Made, run: Path) -> None:
    head = VqaHead.from_pretrained(run)
    with pytest.raises(RunError, match=r"reads the choices of each question, but `ask` gives"):
        head.ask(np.zeros((8, 8, 3), np.uint8), "what?")
    with pytest.raises(RunError, match="an ensemble averages"):
        ensemble([load_run(run)] * 2)
    with pytest.raises(RunError, match="but a report shows a question and one picture"):
        ask_for_a_report(made, run)


def ask_for_a_report(made: Made, run: Path) -> None:
    evaluate_command(
        runs=[run],
        cache=made.directory,
        split=None,
        compare_with=[],
        ensemble_with=[],
        shuffle_images=False,
        save_logits=False,
        table=None,
        report=True,
        metric=None,
        cluster_by="image",
        device="cpu",
    )


def test_an_open_metric_leaves_the_choices_alone(tmp_path: Path) -> None:
    """Of the questions of A-OKVQA the direct answers can be learned too."""
    rows = [Row(0, 0, ("a",) * 10, choices=(0, 1), right=0)]
    made = make_cache(tmp_path, {"train": rows, "val": rows})
    data = load_train_data(made.directory, small(metric="aokvqa-da"))
    assert (data.chooses, data.vocabulary.answers) == (False, ("a",))


def test_an_open_split_is_refused_by_a_head_of_choices(run: Path, tmp_path: Path) -> None:
    made = make_cache(tmp_path, {"val": [Row(0, 0, ("a",))]})
    with pytest.raises(CacheError, match="1 of 1 questions of split 'val' have no choices"):
        evaluate(run, made.directory, "val")


def test_the_loss_is_cross_entropy_over_the_choices_that_there_are() -> None:
    logits = torch.tensor([[1.0, 2.0, NO_CHOICE], [0.0, 0.5, 0.25]], requires_grad=True)
    loss = choice_loss(logits, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    first = np.log(1 + np.exp(-1))
    second = np.log(1 + np.exp(0.5) + np.exp(0.25))
    assert loss.item() == pytest.approx((first + second) / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0
