"""Intervals and tests take as drawn at random what --cluster-by names."""

from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.evaluate.clusters import UNITS, cluster_questions
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.statistics import mean_interval, sign_flip
from frozen_vqa.pipeline.runs.run import load_run
from tests.support.caches import Row, make_cache
from tests.support.command import error_of, run_command
from tests.support.trainings import CPU, run_training


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("clusters")
    words = ("red", "blue")
    rows = [Row(i // 2, (i * 7) % 80, (words[i * i // 3 % 2],) * 10) for i in range(200)]
    made = make_cache(place / "cache", {"train": rows, "val": rows})
    for seed, name in enumerate("ab"):
        run_training(made, place / name, epochs=1, fusion="concat", seed=seed)
    return place / "a", place / "b"


@pytest.mark.parametrize("by", ["image", "question", "folder"])
def test_clusters_reach_every_interval_and_test(
    by: str, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"video {i % 80}/{i}" for i in range(100)]
    monkeypatch.setattr(FeatureCache, "image_ids", lambda self: ids)
    cache = FeatureCache(load_run(runs[0], CPU).cache)
    table = cache.split("val")
    named = {
        "image": table.image_rows,
        "question": table.question_rows,
        "folder": np.array([ids[row].split("/")[0] for row in table.image_rows]),
    }
    ours, theirs = (evaluate(load_run(run, CPU), cache, "val", write=False) for run in runs)
    assert ours.scores is not None
    assert theirs.scores is not None
    words = ("evaluate", runs[0], "--compare", runs[1], "--cluster-by", by, "--json")
    found = run_command(*words)
    assert found.code == 0, found.err
    said = found.json()
    unit = UNITS[by]  # type: ignore[index]
    own = mean_interval(100 * ours.scores, named[by], least=0, largest=100, unit=unit)
    assert own.to_json().items() <= said.items()
    row = said["compare"][0]["rows"][0]
    test = sign_flip(100 * ours.scores, 100 * theirs.scores, named[by])
    assert row["p"] == float(f"{test.p:.2g}")
    assert said.get("cluster_by", "image") == by
    assert f"sign-flip test over {unit}" in " ".join(found.err.split())


def test_few_clusters_are_called_by_their_name(runs: tuple[Path, Path]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureCache, "image_ids", lambda self: [f"{i % 9}/{i}" for i in range(100)])
        said = run_command("evaluate", runs[0], "--cluster-by", "folder", "--json").json()
    assert (said["interval"], said["no_interval"][-17:]) == (None, "folders, 75 needed"[-17:])


def test_pictures_without_folders_are_refused(runs: tuple[Path, Path]) -> None:
    said = error_of(run_command("evaluate", runs[0], "--cluster-by", "folder"))
    assert "no picture of this split has a folder in its id" in said
    cache = FeatureCache(load_run(runs[0], CPU).cache)
    table = cache.split("val")
    assert cluster_questions(cache, table, "image") is table.image_rows
