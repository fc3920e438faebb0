"""A head's answers in the official form, and the same accuracy as the official files give."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.evaluate.statistics import mean_interval
from frozen_vqa.pipeline.metrics.official_files import read_predictions
from frozen_vqa.pipeline.metrics.score import score_files
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules, normalise, question_score
from frozen_vqa.pipeline.runs.run import Run, load_run
from frozen_vqa.pipeline.runs.sealed import unseal_json
from tests.support.caches import Made, Row, make_cache, make_spec
from tests.support.heads import make_run

CPU = torch.device("cpu")
# Forms that the rules treat differently: case, digits, punctuation, and agreement in raw text.
FORMS = ("yes", "Yes", "two", "2", "t-shirt", "a dog", "dog", "no", "the")
VOCABULARY = Vocabulary(("yes", "2", "t-shirt", "dog", "no"))


def make_rows(count: int, seed: int = 0) -> list[Row]:
    """Return questions with ten answers: half of them unanimous, some without types."""
    rng = np.random.default_rng(seed)
    types = [("is the", "yes/no"), ("how many", "number"), ("what", "other"), ("", "")]
    rows = []
    for i in range(count):
        forms = rng.choice(FORMS, 1 if i % 2 else 3, replace=False)
        answers = tuple(str(form) for form in rng.choice(forms, 10))
        rows.append(Row(int(rng.integers(6)), int(rng.integers(8)), answers, *types[i % 4]))
    return [*rows, Row(5, 7, ("yes",) * 10, "is the", "yes/no")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    rows = make_rows(40)
    return make_cache(
        tmp_path_factory.mktemp("evaluate"),
        {
            "val": rows,
            "test": [replace(row, answers=()) for row in rows[:7]],
            "some": [
                replace(row, answers=row.answers[: 10 * (i % 3)]) for i, row in enumerate(rows)
            ],
            "few": [replace(row, answers=row.answers[:1]) for row in rows],
            "none": [],
        },
        left_out=3,
    )


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Run:
    make_run(made, tmp_path / "run", vocabulary=VOCABULARY, seed=3)
    return load_run(tmp_path / "run", CPU)


def write_annotations(made: Made, split: str, path: Path) -> Path:
    annotations = [
        {
            "question_id": 100 + i,
            "image_id": row.image,
            "question_type": row.question_type,
            "answer_type": row.answer_type,
            "answers": [{"answer": a, "answer_id": n} for n, a in enumerate(row.answers, start=1)],
        }
        for i, row in enumerate(made.splits[split])
    ]
    path.write_text(json.dumps({"annotations": annotations}))
    return path


@pytest.mark.parametrize("rules", ["2021", "2017", None])
def test_it_is_the_accuracy_of_the_official_files(
    rules: Rules | None, made: Made, run: Run, tmp_path: Path
) -> None:
    evaluation = evaluate(run, FeatureCache(made.directory), "val", metric=rules)

    expected, each = score_files(
        predictions=evaluation.results,
        annotations=write_annotations(made, "val", tmp_path / "annotations.json"),
        metric=rules,
    )
    assert evaluation.accuracy == expected
    assert expected.metric == (rules or "2021")
    assert 0 < expected.overall < 100
    assert evaluation.scores is not None
    assert 100 * evaluation.scores == pytest.approx(list(each.values()), abs=0.005)


def test_the_rules_differ_on_these_files(made: Made, run: Run) -> None:
    """Otherwise the test above could not tell one from the other."""
    cache = FeatureCache(made.directory)
    new, old = (evaluate(run, cache, "val", metric=rules) for rules in ("2021", "2017"))
    assert new.accuracy is not None
    assert old.accuracy is not None
    assert new.accuracy.overall != old.accuracy.overall


def test_results_are_complete_and_those_of_the_head(made: Made, run: Run) -> None:
    evaluation = evaluate(run, FeatureCache(made.directory), "val")

    assert evaluation.results == run.path / "evaluation" / "val" / "results.json"
    found = json.loads(evaluation.results.read_text(encoding="utf-8"))
    rows = made.splits["val"]
    assert [entry["question_id"] for entry in found] == [100 + i for i in range(len(rows))]
    assert all(entry.keys() == {"question_id", "answer"} for entry in found)
    answers = []
    for row in rows:
        states = torch.from_numpy(made.states[row.question])[None, None]
        mask = torch.ones(states.shape[:-1], dtype=torch.bool)
        patches = torch.from_numpy(made.patch_embeddings[row.image])[None]
        answers.append(VOCABULARY.answers[int(run.model(patches, states, mask).argmax())])
    assert [entry["answer"] for entry in found] == answers == list(evaluation.answers)
    assert len(set(answers)) > 2


def test_scores_are_written_beside_the_results(made: Made, run: Run) -> None:
    evaluation = evaluate(run, FeatureCache(made.directory), "val")
    found = unseal_json(json.loads((run.path / "evaluation/val/scores.json").read_text()))
    assert found == json.loads(json.dumps(evaluation.to_json()))
    assert evaluation.accuracy is not None
    assert found["accuracy"]["overall"] == evaluation.accuracy.overall
    assert set(found["accuracy"]) == {"overall", "yes/no", "number", "other"}
    assert set(found["by_question_type"]) == {"is the", "how many", "what"}
    assert found["ceiling"] == evaluation.ceiling
    assert found["questions"] == 41
    assert found["left_out"] == 3
    assert found["metric"] == "2021"


def test_the_interval_is_by_picture(made: Made, run: Run) -> None:
    evaluation = evaluate(run, FeatureCache(made.directory), "val")
    assert evaluation.scores is not None
    pictures = np.array([row.image for row in made.splits["val"]])
    expected = mean_interval(100 * evaluation.scores, pictures, least=0, largest=100)
    assert evaluation.interval == expected
    assert evaluation.to_json()["interval"] is None
    assert evaluation.to_json()["no_interval"] == "worth 4 pictures, 75 needed"


@pytest.mark.parametrize("rules", ["2021", "2017"])
def test_no_head_is_above_its_ceiling(rules: Rules, made: Made, run: Run) -> None:
    evaluation = evaluate(run, FeatureCache(made.directory), "val", metric=rules)
    assert evaluation.accuracy is not None
    assert evaluation.ceiling is not None
    assert evaluation.accuracy.overall <= evaluation.ceiling < 100
    best = [
        max(question_score(answer, row.answers, rules=rules) for answer in VOCABULARY.answers)
        for row in made.splits["val"]
    ]
    assert evaluation.ceiling == pytest.approx(100 * np.mean(best), abs=0.006)


def test_a_split_without_answers_is_predicted_only(made: Made, run: Run) -> None:
    evaluation = evaluate(run, FeatureCache(made.directory), "test")
    assert list(read_predictions(evaluation.results)) == [100 + i for i in range(7)]
    assert evaluation.scores is evaluation.accuracy is evaluation.ceiling is None
    found = json.loads((run.path / "evaluation/test/scores.json").read_text())
    assert found["questions"] == 7
    assert "accuracy" not in found
    assert found["interval"] is None


def test_fewer_than_ten_answers_are_scored_plainly(made: Made, run: Run) -> None:
    evaluation = evaluate(run, FeatureCache(made.directory), "few")
    assert evaluation.accuracy is not None
    assert evaluation.accuracy.metric == "plain"
    right = [
        normalise(answer) == normalise(row.answers[0])
        for answer, row in zip(evaluation.answers, made.splits["few"], strict=True)
    ]
    assert evaluation.accuracy.overall == pytest.approx(100 * np.mean(right), abs=0.005)
    assert evaluation.accuracy.overall > 0


def test_a_split_that_is_answered_in_part_is_refused(made: Made, run: Run) -> None:
    with pytest.raises(CacheError, match=r"14 of 41 questions of split 'some' have no answers"):
        evaluate(run, FeatureCache(made.directory), "some")


def test_splits_that_cannot_be_evaluated(made: Made, run: Run) -> None:
    with pytest.raises(CacheError, match="split 'none' has no questions"):
        evaluate(run, FeatureCache(made.directory), "none")
    with pytest.raises(CacheError, match="there is no split 'dev' in this cache"):
        evaluate(run, FeatureCache(made.directory), "dev")


def test_another_encoders_features_are_refused(made: Made, run: Run, tmp_path: Path) -> None:
    """Before anything is written."""
    spec = make_spec(text={"model": "made-up-text", "layer": -2})
    other = make_cache(tmp_path / "other", {"val": make_rows(1)}, spec=spec)
    with pytest.raises(CacheError, match=r"text layer is -2, but the run .* was trained with -1"):
        evaluate(run, FeatureCache(other.directory), "val")
    assert not (run.path / "evaluation").exists()


def test_results_that_cannot_be_written(made: Made, run: Run) -> None:
    (run.path / "evaluation").write_text("a file where a folder is needed")
    with pytest.raises(RunError, match="evaluation: a link or a file stands in place of a folder"):
        evaluate(run, FeatureCache(made.directory), "val")


def test_evaluating_twice_gives_the_same_files(made: Made, run: Run) -> None:
    def files() -> dict[str, bytes]:
        evaluate(run, FeatureCache(made.directory), "val")
        return {path.name: path.read_bytes() for path in (run.path / "evaluation/val").iterdir()}

    first: dict[str, bytes] = files()
    assert files() == first
    assert set(first) == {"results.json", "scores.json"}


def test_training_mode_does_not_leak_into_answers(made: Made, run: Run) -> None:
    run.model.train()
    one: Evaluation = evaluate(run, FeatureCache(made.directory), "val")
    two: Evaluation = evaluate(run, FeatureCache(made.directory), "val")
    assert one.answers == two.answers
    assert not run.model.training
