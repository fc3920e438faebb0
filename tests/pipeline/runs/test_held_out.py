"""What is held out to validate with: by picture, the same for any order, known everywhere."""

import dataclasses
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.evaluate.caveats import warn_of_training_data, warn_of_training_split
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.data import TrainingData, is_trained_on, record_data
from frozen_vqa.pipeline.runs.description import read_record
from frozen_vqa.pipeline.runs.held_out import HeldOut, find_held_out, read_split, read_training
from frozen_vqa.pipeline.runs.run import Run, load_run
from frozen_vqa.pipeline.train.data import load_train_data
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made, Row, make_cache
from tests.support.trainings import CPU, run_training, small

IDS = st.lists(st.text(max_size=3), min_size=2, max_size=40, unique=True)
FRACTIONS = st.floats(0.001, 0.999)


@settings(deadline=None)
@given(ids=IDS, fraction=FRACTIONS, seed=st.integers(0, 2**63 - 1), data=st.data())
def test_what_is_held_out_depends_on_ids_share_and_seed_alone(
    ids: list[str], fraction: float, seed: int, data: st.DataObject
) -> None:
    part = HeldOut("train", fraction, seed)
    held = part.pictures(ids)

    assert held == part.pictures(data.draw(st.permutations(ids)))
    assert held <= set(ids)
    assert len(held) == min(max(1, round(fraction * len(ids))), len(ids) - 1)
    larger = HeldOut("train", data.draw(st.floats(fraction, 0.999)), seed)
    assert held <= larger.pictures(ids)
    assert larger.holds(part)


@settings(deadline=None)
@given(fraction=FRACTIONS, seed=st.integers(0, 2**63 - 1), split=st.sampled_from(["a", "x@0.5"]))
def test_the_name_of_a_part_says_what_it_is(fraction: float, seed: int, split: str) -> None:
    config = small(train_split=split, val_fraction=fraction, val_seed=seed)
    assert find_held_out(config.validation, [split]) == HeldOut(split, fraction, seed)
    assert find_held_out(config.validation, [config.validation]) is None
    assert find_held_out(split, [split]) is None


def test_the_two_parts_share_no_picture_and_lose_no_question(scenes: Made) -> None:
    cache, config = FeatureCache(scenes.directory), small(val_fraction=0.25)
    whole = cache.split("train")
    rest, held = read_training(cache, config), read_split(cache, "train@0.25")

    pictures = len(set(whole.image_rows.tolist()))
    assert len(set(held.image_rows.tolist())) == round(0.25 * pictures)
    assert not set(rest.image_rows.tolist()) & set(held.image_rows.tolist())
    for table in (rest, held):
        rows = [whole.question_ids.index(one) for one in table.question_ids]
        assert rows == sorted(rows)
        for field in dataclasses.fields(whole):
            of_whole, of_part = getattr(whole, field.name), getattr(table, field.name)
            assert list(of_part) == [of_whole[row] for row in rows if len(of_whole)]
    assert len(rest) + len(held) == len(whole)
    seeded = read_split(cache, "train@0.25@7")
    assert list(seeded.question_ids) != list(held.question_ids)


def test_a_split_of_one_picture_cannot_be_divided(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(scenes.directory)
    monkeypatch.setattr(cache, "image_ids", lambda: ["a"] * cache.manifest.image_rows)
    with pytest.raises(CacheError, match=r"split 'train' has 1 pictures .*at least two are needed"):
        read_split(cache, "train@0.5")


@pytest.fixture(scope="module")
def run(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("held") / "run"
    run_training(scenes, folder, val_fraction=0.25, epochs=2)
    return load_run(folder, CPU)


def test_a_run_records_what_it_held_out_and_scores_it(scenes: Made, run: Run) -> None:
    cache = FeatureCache(scenes.directory)
    best = read_record(run.path)["best_accuracy"]
    scored = evaluate(run, cache, run.config.validation)

    assert run.config.validation == "train@0.25" == read_record(run.path)["held_out"]
    assert scored.accuracy is not None
    assert scored.accuracy.overall == best
    assert scored.data is not None
    assert (scored.data.own_cache, scored.data.trained_on, scored.data.chosen_on) == (
        True,
        False,
        True,
    )
    assert len(scored.left_out) == 0
    assert json.loads((run.path / "evaluation" / "train@0.25" / "scores.json").read_text())
    card = (run.path / "README.md").read_text()
    assert "25 % of the pictures of 'train' that were not trained on" in card


def test_caveats_know_which_questions_were_held_out(scenes: Made, run: Run) -> None:
    cache = FeatureCache(scenes.directory)
    for split, leaks in {
        "train": True,
        "train@0.25": False,
        "train@0.1": False,
        "train@0.3": True,
        "train@0.25@1": True,
        "val": False,
        "val@0.25": False,
    }.items():
        assert bool(warn_of_training_split(run, cache, split)) == leaks, split
    other = replace(run, data=replace(run.data, held_out=None))
    assert warn_of_training_split(other, cache, "train@0.25")
    (warning,) = warn_of_training_data(run, other)
    assert "without 'train@0.25'" in warning


@pytest.mark.parametrize("dataset", ["jsonl:/mine", "jsonl:/moved"])
def test_a_cache_that_gains_or_loses_pictures_holds_out_others_and_scores_say_so(
    tmp_path: Path, dataset: str
) -> None:
    """Some of those that are now held out were trained on, so their score is marked."""
    config, folder = small(val_fraction=0.25), tmp_path / "cache"

    def fill(count: int, dataset: str) -> FeatureCache:
        shutil.rmtree(folder, ignore_errors=True)
        rows = [Row(i, 0, ("red",) * 10) for i in range(count)]
        return FeatureCache(make_cache(folder, {"train": rows}, dataset=dataset).directory)

    first = fill(12, "jsonl:/mine")
    noted = record_data(first, config)
    trained = TrainingData(str(folder), first.spec.dtype, **noted)
    learned = set(read_training(first, config).image_rows.tolist())
    leaked = 0
    for count in (12, 11, 13, 30, 60):
        cache = fill(count, dataset)
        leaks = learned & set(read_split(cache, config.validation).image_rows.tolist())
        said = is_trained_on(trained, config, cache, config.validation)
        same = cache.manifest.splits["train"].xxh3 == noted["splits"]["train"]
        assert (count == 12) == same == (not said)
        assert said or not leaks
        leaked += bool(leaks)
    assert leaked  # or the last line but one says nothing


def test_a_resume_with_another_share_is_refused(scenes: Made, run: Run) -> None:
    config = small(val_fraction=0.5, epochs=2)
    with pytest.raises(ConfigError, match=r"val_fraction was 0\.25 .* 0\.5 is asked for"):
        train(scenes.directory, run.path, config=config, device=CPU, resume=True)


def test_without_a_validation_split_the_message_names_ways_that_work(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "accuracy", lambda self, *_: 50.0 - self.counters.epoch)
    with pytest.raises(CacheError, match=r"--val-fraction 0\.1.*--val-split train --keep last"):
        load_train_data(scenes.directory, small(val_split="nope"))
    result = run_training(scenes, tmp_path / "run", val_split="train", keep="last", epochs=2)
    assert result.best_epoch == 2
    last = load_run(tmp_path / "run", CPU)
    data = evaluate(last, FeatureCache(scenes.directory), "train", write=False).data
    assert data is not None
    assert not data.chosen_on
    assert "the last one, which no score chose" in (tmp_path / "run" / "README.md").read_text()
