"""Whose score it is: data set, cache and split stand with it, and other runs stay as they are."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.caveats import warn_of_training_data
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.runs.card import CARD, write_card
from frozen_vqa.pipeline.runs.publish import publish_run
from frozen_vqa.pipeline.runs.run import finish_run, load_run, read_outcome
from frozen_vqa.pipeline.runs.sealed import seal_json, unseal_json
from tests.support.caches import Made, Row, make_cache
from tests.support.command import run_command
from tests.support.heads import make_run

CPU = torch.device("cpu")
OUTCOME = {"best_accuracy": 50.0, "best_epoch": 1, "epochs": 3, "trainable_parameters": 9}
OUTCOME |= {"metric": "2021", "val_ceiling": 100.0, "run": "run", "fusion": "concat"}
OUTCOME |= {"questions_per_second": 1.0, "data_wait_fraction": 0.0, "seconds": 1.0}


def rows(*images: int, word: str = "red") -> list[Row]:
    answers = (word,) * 6 + ("blue",) * 4
    return [Row(image, image, answers, "what", "other") for image in images]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The cache that the head is trained from."""
    splits = {"train": rows(0, 1, 2), "val": rows(3, 4)}
    return make_cache(tmp_path_factory.mktemp("home"), splits, dataset="jsonl:/data/mine")


@pytest.fixture
def trained(home: Made, tmp_path: Path) -> Path:
    path = tmp_path / "run"
    finished(home, path)
    return path


def finished(made: Made, path: Path, seed: int = 7) -> None:
    make_run(made, path, vocabulary=Vocabulary(("red", "blue")), seed=seed)
    noted = unseal_json(json.loads((path / "run.json").read_bytes()))
    outcome = OUTCOME | {name: noted[name] for name in ("dataset", "splits")}
    write_card(path, outcome)
    finish_run(path, FeatureCache(made.directory), outcome)


def score(run: Path, made: Made, split: str = "val") -> Evaluation:
    return evaluate(load_run(run, CPU), FeatureCache(made.directory), split)


@pytest.mark.parametrize("linked", ["evaluation", "evaluation/val"])
def test_results_follow_no_link(linked: str, home: Made, trained: Path, tmp_path: Path) -> None:
    """A stranger's run could have the scores of another replaced."""
    score(trained, home)
    out = tmp_path / "elsewhere"
    (trained / linked).rename(out)
    (trained / linked).symlink_to(out)
    before = files(out)
    with pytest.raises(RunError, match=f"{linked}: a link or a file stands"):
        score(trained, home)
    assert files(out) == before


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def card_rows(run: Path) -> list[list[str]]:
    """Return data set, split and accuracy of each row of the card's first table."""
    table = (run / CARD).read_text().split("## Accuracy")[1].split("These are")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if "|" in line]
    return [line[:3] for line in lines[2:]]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """Caches of the same encoders, by how they differ from the one of the training."""
    folder = tmp_path_factory.mktemp("others")
    others = {
        "another data set": ({"train": rows(0, 1), "val": rows(3, 2)}, "jsonl:/data/theirs"),
        "an unknown data set": ({"val": rows(4, 3)}, None),
        "other answers": ({"train": rows(0), "val": rows(3, 4, word="green")}, "jsonl:/data/mine"),
        "fewer rows": ({"train": rows(0, 1), "val": rows(3)}, "jsonl:/data/mine"),
    }
    return {
        name: make_cache(folder / name, splits, dataset=dataset)
        for name, (splits, dataset) in others.items()
    }


def test_a_score_on_another_cache_never_takes_the_place_of_the_own(
    home: Made, trained: Path, others: dict[str, Made]
) -> None:
    """Whatever is scored before or after: each score has a file and a row of its own."""
    own = score(trained, home)
    assert own.data is not None
    assert own.data.own_cache
    assert own.results == trained / "evaluation/val/results.json"
    before = files(trained / "evaluation/val")
    whole = card_rows(trained)
    assert whole[1][:2] == ["jsonl:mine", "val (2 questions), which chose the weights"]
    digests = {own.data.cache_digest}
    for name, made in others.items():
        found = score(trained, made)
        assert found.data is not None
        assert not found.data.own_cache, name
        assert files(trained / "evaluation/val") == before, name
        assert found.results is not None
        assert found.results.parent.name == f"val-{found.data.cache_digest[:8]}"
        digests.add(found.data.cache_digest)
        shown = card_rows(trained)
        assert shown[:2] == whole
        (row,) = [line for line in shown if found.data.cache_digest[:8] in line[0]]
        dataset = "unknown" if name == "an unknown data set" else f"jsonl:{made_name(found)}"
        assert row[0] == f"{dataset} (other cache, {found.data.cache_digest[:8]})"
    assert len(digests) == 5
    assert len(card_rows(trained)) == 6


def made_name(evaluation: Evaluation) -> str:
    assert evaluation.data is not None
    assert evaluation.data.dataset is not None
    return evaluation.data.dataset.rpartition("/")[2]


def test_a_cache_that_was_moved_or_has_more_splits_is_still_the_own(
    home: Made, trained: Path, tmp_path: Path
) -> None:
    moved = replace(home, directory=tmp_path / "moved")
    shutil.copytree(home.directory, moved.directory)
    one, other = score(trained, home), score(trained, moved)
    assert one.data == other.data
    small = moved.directory.with_name("small")
    assert run_command("convert-cache", home.directory, "--cache", small).code == 0
    rounded = score(trained, replace(home, directory=small)).data
    assert rounded is not None
    assert not rounded.own_cache
    more = {"train": rows(0, 1, 2), "val": rows(3, 4), "extra": rows(0, 4)}
    grown = make_cache(tmp_path / "grown", more, dataset="jsonl:/data/mine")
    found = score(trained, grown, "extra")
    assert found.data is not None
    assert (found.data.own_cache, found.data.trained_on) == (True, False)


def test_scores_say_what_they_are_on(home: Made, trained: Path, others: dict[str, Made]) -> None:
    for made in (home, others["an unknown data set"]):
        found = score(trained, made)
        assert found.results is not None
        assert found.data is not None
        written = unseal_json(json.loads(found.results.with_name("scores.json").read_bytes()))
        assert written == json.loads(json.dumps(found.to_json()))
        assert {"dataset", "cache_digest", "split", "metric", "own_cache", "trained_on"} <= set(
            written
        )
        assert written["cache_digest"] == found.data.cache_digest


def trained_on(run: Path, made: Made, split: str) -> bool:
    """Whether a score says so, the card marks it and the command warns, which is the same."""
    found = score(run, made, split)
    assert found.data is not None
    own = "" if found.data.own_cache else found.data.cache_digest[:8]
    (row,) = [
        line
        for line in card_rows(run)
        if line[1].startswith(f"{split} (") and own in line[0] and "questions" in line[1]
        if own or "other cache" not in line[0]
    ]
    assert ("trained on it" in row[1]) == found.data.trained_on
    words = ("--run", run, "--cache", made.directory, "--split", split, "--json")
    said = run_command("evaluate", *words).json().get("warnings", [])
    assert any("was trained on split" in line for line in said) == found.data.trained_on
    return found.data.trained_on


def test_a_score_on_the_training_split_is_marked(
    home: Made, trained: Path, others: dict[str, Made], tmp_path: Path
) -> None:
    """By the digest of the split whatever its name, else by the names of data set and split."""
    renamed = make_cache(tmp_path / "renamed", {"dev": rows(0, 1, 2)}, dataset="jsonl:/data/new")
    assert trained_on(trained, home, "train")
    assert not trained_on(trained, home, "val")
    assert trained_on(trained, renamed, "dev")
    assert trained_on(trained, others["fewer rows"], "train")
    assert not trained_on(trained, others["another data set"], "train")


def test_a_run_of_an_earlier_version_goes_by_its_folder(
    home: Made, trained: Path, others: dict[str, Made]
) -> None:
    noted = unseal_json(json.loads((trained / "run.json").read_bytes()))
    del noted["splits"]
    (trained / "run.json").write_bytes(seal_json(noted))
    one = score(trained, home, "train").data
    other = score(trained, others["fewer rows"]).data
    assert one is not None
    assert other is not None
    assert (one.own_cache, one.trained_on) == (True, True)
    assert (other.own_cache, other.trained_on) == (False, False)


def test_a_published_run_still_knows_its_data(home: Made, trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "hub"
    target.mkdir()
    publish_run(trained, target)
    found = score(target, home, "train").data
    assert found is not None
    assert (found.own_cache, found.trained_on) == (True, True)


def test_scores_of_an_earlier_version_are_nobodys(home: Made, trained: Path) -> None:
    """The card shows them, and says that what they are on was not recorded."""
    found = score(trained, home)
    assert found.results is not None
    path = found.results.with_name("scores.json")
    old = unseal_json(json.loads(path.read_bytes()))
    for name in ("dataset", "cache_digest", "own_cache", "trained_on", "no_interval"):
        old.pop(name, None)
    path.write_bytes(seal_json(old | {"interval": [12.0, 34.0]}))
    outcome = read_outcome(trained)
    assert outcome is not None
    write_card(trained, outcome)
    assert card_rows(trained)[1][0] == "not recorded (scored by an earlier version)"


def test_a_comparison_writes_nothing_into_other_runs(
    home: Made, trained: Path, tmp_path: Path
) -> None:
    """Scored before or not, with one seed a side or several: the same bytes, and no new file."""
    for name, seed in (("seed", 8), ("other", 7), ("fresh", 8)):
        finished(home, tmp_path / name, seed)
    score(tmp_path / "other", home)
    runs = [tmp_path / name for name in ("other", "fresh")]
    before = [files(run) for run in runs]
    beside = [word for run in runs for word in ("--compare", run)]
    for more in (("--ensemble", runs[0]), ("--run", tmp_path / "seed", "--split", "train")):
        found = run_command("evaluate", "--run", trained, *more, *beside, "--save-logits", "--json")
        assert found.code == 0, found.err
        assert [files(run) for run in runs] == before
        assert all("results" not in side for side in found.json()["compare"])


def test_runs_of_equal_splits_are_of_equal_data(
    home: Made, trained: Path, others: dict[str, Made], tmp_path: Path
) -> None:
    """Wherever the caches lie now, and whether they are there or not."""
    copied = replace(home, directory=tmp_path / "copied")
    shutil.copytree(home.directory, copied.directory)
    finished(copied, tmp_path / "same")
    finished(others["fewer rows"], tmp_path / "fewer")
    shutil.rmtree(copied.directory)
    one, same, fewer = (
        load_run(path, CPU) for path in (trained, tmp_path / "same", tmp_path / "fewer")
    )
    assert warn_of_training_data(one, same) == []
    assert len(warn_of_training_data(one, fewer)) == 1
