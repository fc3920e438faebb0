"""`evaluate` with all that can be set beside a head: files, JSON and what people are told."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.evaluate.variants import assign_other_images
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from tests.support.caches import Made
from tests.support.command import Finished, run_command
from tests.support.heads import make_run

ANSWERS = Vocabulary(("red", "blue"))


@pytest.fixture
def place(scenes: Made, tmp_path: Path) -> Path:
    """Runs a0, a1 (two seeds whose answers depend on the picture) and concat."""
    for name, seed in (("a0", 6), ("a1", 8)):
        make_run(scenes, tmp_path / name, vocabulary=ANSWERS, seed=seed)
    make_run(scenes, tmp_path / "concat", vocabulary=ANSWERS, fusion="concat", seed=0)
    return tmp_path


def evaluated(*words: object) -> dict:
    found = run_command("evaluate", *words, "--json")
    assert found.code == 0, found.err
    return found.json()


def failed(*words: object) -> str:
    found: Finished = run_command("evaluate", *words)
    assert (found.code, found.out) == (1, "")
    return found.err.splitlines()[-1]


def test_a_single_run_keeps_its_keys(place: Path) -> None:
    found = evaluated("--run", place / "a0", "--compare", place / "concat")
    assert {"run", "fusion", "split", "accuracy", "ceiling", "interval", "results"} <= set(found)
    (beside,) = found["compare"]
    assert (beside["run"], beside["fusion"]) == (str(place / "concat"), "concat")
    overall = beside["rows"][0]
    assert overall["ours"] == found["accuracy"]["overall"]
    assert {"group", "kind", "questions", "theirs", "difference", "interval", "p"} <= set(overall)
    assert "warnings" not in found
    assert {p.name for p in (place / "a0/evaluation/val").iterdir()} == {
        "results.json",
        "scores.json",
    }


def test_a_head_against_itself(place: Path) -> None:
    found = evaluated("--run", place / "a0", "--compare", place / "a0")
    for row in found["compare"][0]["rows"]:
        assert (row["difference"], row["interval"], row["p"]) == (0, None, 1)


def test_several_seeds_a_side(place: Path, scenes: Made) -> None:
    make_run(scenes, place / "c1", vocabulary=ANSWERS, fusion="concat", seed=1)
    runs = ("--run", place / "a0", "--run", place / "a1")
    others = ("--compare", place / "concat", "--compare", place / "c1")
    table = place / "t.tex"
    found = evaluated(*runs, *others, "--table", table)
    assert found["seeds"] == [6, 8]
    each = [run["accuracy"]["overall"] for run in found["runs"]]
    assert found["mean"]["overall"] == pytest.approx(np.mean(each), abs=0.006)
    assert found["sd"]["overall"] == pytest.approx(np.std(each, ddof=1), abs=0.006)
    (side,) = found["compare"]
    assert side["seeds"] == [0, 1]
    overall = side["rows"][0]
    assert overall["difference"] == pytest.approx(
        found["mean"]["overall"] - side["mean"]["overall"], abs=0.02
    )
    assert overall["ours_sd"] == found["sd"]["overall"]
    assert "concat (2 seeds), concat" in table.read_text()
    assert "differ by more than their seed: fusion is 'co-attention' and 'concat'" in failed(
        "--run", place / "a0", "--run", place / "concat"
    )


def answers_of(model: VqaModel, scenes: Made, images: Iterable[int]) -> list[str]:
    """What a head answers to the validation questions about these pictures, one by one."""
    found = []
    for row, image in zip(scenes.splits["val"], images, strict=True):
        states = torch.from_numpy(scenes.states[row.question])[None, None]
        mask = torch.ones(states.shape[:-1], dtype=torch.bool)
        patches = torch.from_numpy(scenes.patch_embeddings[image])[None]
        found.append(ANSWERS.answers[int(model(patches, states, mask).argmax())])
    return found


def test_the_shuffled_image_control(scenes: Made, tmp_path: Path) -> None:
    """It is the head's answers about those pictures, and the true evaluation stays as it was."""
    own = [row.image for row in scenes.splits["val"]]
    wrong = [int(image) for image in assign_other_images(np.array(own))]
    for seed in range(50):  # till a random head's answers depend on the picture
        run = tmp_path / f"run{seed}"
        model = make_run(scenes, run, vocabulary=ANSWERS, fusion="image-only", seed=seed)
        expected = answers_of(model, scenes, wrong)
        if expected != answers_of(model, scenes, own):
            break
    evaluated("--run", run)
    folder = run / "evaluation/val"
    before = {path: path.read_bytes() for path in folder.glob("*.json")}

    found = evaluated("--run", run, "--shuffle-images")

    assert {path: path.read_bytes() for path in folder.glob("*.json")} == before
    control = found["shuffled_images"]
    assert Path(control["results"]) == folder / "shuffled-images" / "results.json"
    assert control["rows"][0]["ours"] == found["accuracy"]["overall"]
    given = [entry["answer"] for entry in json.loads(Path(control["results"]).read_text())]
    assert given == expected != [e["answer"] for e in json.loads(before[folder / "results.json"])]


def read_logits(path: str) -> tuple[np.ndarray, dict]:
    with safetensors.safe_open(path, framework="np") as file:
        return file.get_tensor("logits"), json.loads(file.metadata()["run"])


def test_logits_on_request(place: Path) -> None:
    found = evaluated("--run", place / "a0", "--save-logits")
    logits, names = read_logits(found["logits"])
    results = json.loads(Path(found["results"]).read_text())
    assert logits.shape == (32, 2)
    assert logits.dtype == np.float32
    assert names["answers"] == ["red", "blue"]
    assert names["question_ids"] == [entry["question_id"] for entry in results]
    assert [names["answers"][i] for i in logits.argmax(1)] == [e["answer"] for e in results]
    plain = evaluated("--run", place / "a0")
    assert json.loads(Path(plain["results"]).read_text()) == results


def test_logits_do_not_outlive_the_answers_beside_them(place: Path) -> None:
    kept = Path(evaluated("--run", place / "a0", "--save-logits")["logits"])
    assert kept.exists()
    assert "logits" not in evaluated("--run", place / "a0")
    assert not kept.exists()


def test_an_ensemble_is_the_mean_probability(place: Path) -> None:
    for name in ("a1", "concat"):
        evaluated("--run", place / name, "--save-logits")
    found = evaluated(
        *("--run", place / "a0", "--save-logits"),
        *("--ensemble", place / "a1", "--ensemble", place / "concat"),
    )
    one = found["ensemble"]
    assert one["members"] == [str(place / name) for name in ("a0", "a1", "concat")]
    assert Path(one["results"]) == place / "a0/evaluation/val/ensemble/results.json"
    each = [
        read_logits(str(place / name / "evaluation/val/logits.safetensors"))[0]
        for name in ("a0", "a1", "concat")
    ]
    mean = np.mean([1 / (1 + np.exp(-logits.astype(np.float64))) for logits in each], axis=0)
    together, _ = read_logits(one["logits"])
    assert 1 / (1 + np.exp(-together)) == pytest.approx(mean, abs=1e-6)
    given = [entry["answer"] for entry in json.loads(Path(one["results"]).read_text())]
    assert given == [ANSWERS.answers[i] for i in mean.argmax(1)]
    assert one["rows"][0]["theirs"] == one["accuracy"]["overall"]


def test_an_ensemble_is_trained_on_what_one_of_its_heads_is(place: Path, scenes: Made) -> None:
    make_run(scenes, place / "knows", vocabulary=ANSWERS, train_split="val")
    for member, knows in (("a1", False), ("knows", True)):
        found = evaluated("--run", place / "a0", "--ensemble", place / member)
        scores = Path(found["ensemble"]["results"]).with_name("scores.json")
        assert found["ensemble"]["trained_on"] == knows
        assert json.loads(scores.read_text())["trained_on"] == knows
        assert found["trained_on"] is False


def test_an_ensemble_needs_the_same_answers(place: Path, scenes: Made) -> None:
    make_run(scenes, place / "more", vocabulary=Vocabulary(("red", "green")))
    make_run(scenes, place / "turned", vocabulary=Vocabulary(("blue", "red")))
    said = failed("--run", place / "a0", "--ensemble", place / "more")
    assert f"{place / 'a0'} alone has 1, such as 'blue'" in said
    assert f"{place / 'more'} alone has 1, such as 'green'" in said
    said = failed("--run", place / "a0", "--ensemble", place / "turned")
    assert "the same answers in another order" in said
    runs = ("--run", place / "a0", "--run", place / "a1")
    assert run_command("evaluate", *runs, "--ensemble", place / "concat").code == 2


def test_a_split_without_answers(place: Path) -> None:
    run = ("--run", place / "a0", "--split", "test")
    for more in (("--compare", place / "concat"), ("--shuffle-images",), ("--table", "t.md")):
        assert "split 'test' has no answers, so there is nothing to compare" in failed(*run, *more)
    assert not (place / "a0/evaluation").exists()

    found = run_command("evaluate", *run, "--ensemble", place / "a1", "--save-logits", "--json")
    assert found.code == 0
    assert "test: no answers to score against; predictions only" in found.err
    for folder in (place / "a0/evaluation/test", place / "a0/evaluation/test/ensemble"):
        assert len(json.loads((folder / "results.json").read_text())) == 2
        assert (folder / "logits.safetensors").exists()
    assert "accuracy" not in found.json()["ensemble"]


def test_warnings(place: Path, scenes: Made) -> None:
    make_run(scenes, place / "val", vocabulary=ANSWERS, train_split="val")
    found = evaluated("--run", place / "a0", "--compare", place / "val")
    on, other = found["warnings"]
    assert on.startswith(f"{place / 'val'} was trained on split 'val'")
    assert f"{place / 'a0'} was trained on split 'train' of {scenes.directory}" in other
    assert f"{place / 'val'} on split 'val'" in other
    said = run_command("evaluate", "--run", place / "val").err
    assert f"warning: {place / 'val'} was trained on split 'val'" in said


def test_a_table_of_another_kind_is_refused_before_anything_is_evaluated(place: Path) -> None:
    assert "Markdown or LaTeX" in failed("--run", place / "a0", "--table", place / "t.csv")
    assert not (place / "a0/evaluation").exists()
