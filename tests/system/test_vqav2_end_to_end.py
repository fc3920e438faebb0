"""All commands, from the official files of VQAv2 to a score; then from parquet and from scenes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from frozen_vqa.cache import FeatureCache
from tests.support import vqav2_data
from tests.support.command import Finished, run_command
from tests.support.lmms_lab import LMMS_LAB
from tests.support.vqav2_data import HEAD, KINDS, TINY, TRAIN, VAL

# Fixtures; the first is in force in every test.
_home, official, place = vqav2_data._home, vqav2_data.official, vqav2_data.place
extracted, extended = vqav2_data.extracted, vqav2_data.extended
trained, evaluated = vqav2_data.trained, vqav2_data.evaluated


def test_a_head_is_trained_from_the_cache(trained: Finished, place: Path) -> None:
    assert trained.code == 0
    found = trained.json()
    expected = {
        "run",
        "fusion",
        "epochs",
        "best_accuracy",
        "trainable_parameters",
        "questions_per_second",
        "data_wait_fraction",
        "seconds",
    }
    assert expected <= set(found)
    assert found["run"] == str(place / "run")
    assert found["fusion"] == "co-attention"
    assert found["epochs"] == 1
    assert 0 <= found["best_accuracy"] <= 100
    assert found["trainable_parameters"] > 1000
    assert found["questions_per_second"] > 0
    assert 0 <= found["data_wait_fraction"] <= 1
    answers = json.loads((place / "run" / "answers.json").read_text())
    assert sorted(answers) == ["2", "3", "blue", "no", "red", "yes"]
    (line,) = (place / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["epoch"] == 1


def test_an_evaluation_scores_and_writes_the_official_form(
    evaluated: Finished, trained: Finished, place: Path
) -> None:
    assert evaluated.code == 0
    found = evaluated.json()
    assert set(found["accuracy"]) == {"overall", "other", "yes/no", "number"}
    assert set(found["by_question_type"]) == {kind for kind, _ in KINDS}
    assert found["questions"] == 6
    assert found["metric"] == "2021"
    assert found["split"] == "val"
    assert found["accuracy"]["overall"] == trained.json()["best_accuracy"]
    assert found["ceiling"] == 100.0
    results = json.loads(Path(found["results"]).read_text())
    assert [set(entry) for entry in results] == [{"question_id", "answer"}] * 6
    assert [entry["question_id"] for entry in results] == [
        42_000, 42_001, 42_002, 43_000, 43_001, 43_002
    ]  # fmt: skip
    vocabulary = set(json.loads((place / "run" / "answers.json").read_text()))
    assert {entry["answer"] for entry in results} <= vocabulary


@pytest.mark.parametrize("rules", [(), ("--metric", "2017")])
def test_score_gives_the_figures_of_evaluate(
    evaluated: Finished, official: Path, place: Path, rules: tuple
) -> None:
    ours = run_command("evaluate", "--run", place / "run", *rules, "--json").json()
    each = place / "each.json"
    scored = run_command(
        "score",
        *("--predictions", ours["results"]),
        *("--annotations", official / "v2_mscoco_val2014_annotations.json"),
        *("--questions", official / "v2_OpenEnded_mscoco_val2014_questions.json"),
        *("--per-question", each),
        *rules,
        "--json",
    )
    assert scored.code == 0
    found = scored.json()
    assert set(found) >= {"accuracy", "by_question_type", "questions", "metric"}
    for name in ("accuracy", "by_question_type", "questions", "metric"):
        assert found[name] == ours[name], name
    percents = json.loads(each.read_text())
    assert list(percents) == ["42000", "42001", "42002", "43000", "43001", "43002"]
    assert np.mean(list(percents.values())) == pytest.approx(found["accuracy"]["overall"], abs=0.01)


def test_a_head_on_its_training_split_answers_only_what_is_in_the_cache(
    trained: Finished, place: Path
) -> None:
    found = run_command("evaluate", "--run", place / "run", "--split", "train", "--json")
    assert found.code == 0
    assert found.json()["questions"] == 21
    assert found.json()["left_out"] == 6
    assert "6 questions are left out because their pictures cannot be read" in found.err


def as_parquet(file: Path, official: Path, split: str, pictures: Mapping[int, Any]) -> None:
    """Write a split of the official folder in the schema of `lmms-lab/VQAv2`."""
    questions = json.loads((official / f"v2_OpenEnded_mscoco_{split}_questions.json").read_text())[
        "questions"
    ]
    annotations = json.loads((official / f"v2_mscoco_{split}_annotations.json").read_text())
    rows = [
        {
            **annotation,
            "question": question["question"],
            "image": {"bytes": pictures[question["image_id"]] or b"no picture", "path": None},
        }
        for question, annotation in zip(questions, annotations["annotations"], strict=True)
    ]
    Dataset.from_list(rows, features=LMMS_LAB).to_parquet(file)


def test_the_same_questions_from_parquet_give_the_same_features(
    official: Path, place: Path, extended: Finished, evaluated: Finished
) -> None:
    data = place / "parquet" / "data"
    data.mkdir(parents=True)
    as_parquet(data / "train-00000-of-00001.parquet", official, "train2014", TRAIN)
    as_parquet(data / "validation-00000-of-00001.parquet", official, "val2014", VAL)
    cache, run = place / "hub-cache", place / "hub-run"
    found = run_command(
        *("extract-features", "--dataset", f"hub:{data.parent}", "--cache", cache, *TINY),
        *("--split", "train", "--split", "val", "--json"),
    )
    assert found.code == 3
    assert found.json()["images"] == {"total": 11, "ids": 11, "encoded": 9, "skipped": 2}
    assert found.json()["failures"][0]["where"] == f"hub:{data.parent}, train row 18"
    theirs, ours = FeatureCache(cache), FeatureCache(place / "cache")
    assert theirs.image_ids() == ours.image_ids()
    for name in ("train", "val"):
        for column in ("question_ids", "answers", "question_types", "answer_types"):
            assert getattr(theirs.split(name), column) == getattr(ours.split(name), column)
    stored = [np.empty((9, 64, 192), np.float16) for _ in range(2)]
    for which, out in zip((theirs, ours), stored, strict=True):
        which.read_images(np.arange(9), out)
    np.testing.assert_allclose(*stored, atol=4e-3)

    trained = run_command("train-head", "--cache", cache, "--run", run, *HEAD, "--json")
    assert (trained.code, trained.json()["epochs"]) == (0, 1)
    scored = run_command("evaluate", "--run", run, "--json")
    assert scored.code == 0
    assert scored.json()["questions"] == 6
    assert scored.json()["metric"] == "2021"
    assert scored.json()["ceiling"] == evaluated.json()["ceiling"]


def test_generated_scenes_go_through_every_command(place: Path) -> None:
    cache, run = place / "shapes-cache", place / "shapes-run"
    found = run_command(
        *("extract-features", "--dataset", "shapes:20", "--cache", cache, *TINY),
        *("--split", "train", "--split", "val", "--json"),
    )
    assert found.code == 0
    assert found.json()["images"] == {"total": 24, "ids": 24, "encoded": 24, "skipped": 0}
    trained = run_command("train-head", "--cache", cache, "--run", run, *HEAD, "--json")
    assert trained.code == 0
    scored = run_command("evaluate", "--run", run, "--json")
    assert scored.code == 0
    best = trained.json()["best_accuracy"]
    assert scored.json()["accuracy"]["overall"] == pytest.approx(best, abs=0.011)
    held = run_command("inspect-cache", cache, "--json").json()
    assert held["images"] == {"rows": 24, "shards": 1}
    assert held["splits"]["val"]["questions"] == scored.json()["questions"]
    assert held["splits"]["val"]["left_out"] == 0
