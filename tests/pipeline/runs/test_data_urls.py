"""A cache at a URL keeps its name in what a run says, and is known again by it."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.stores.stage import open_stage
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.evaluate.caveats import warn_of_training_data
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.data import describe_score, is_trained_on, record_data
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.sealed import seal_json
from frozen_vqa.pipeline.train.data import load_train_data
from tests.support import run_folders, stores
from tests.support.caches import Made, Row, make_cache
from tests.support.stores import URL, memory, push
from tests.support.trainings import CPU, small

empty, made, run = stores.empty, run_folders.made, run_folders.run  # fixtures


def trained_from(run: Path, cache: FeatureCache, place: str, folder: Path) -> Path:
    """Return a copy of a run that was trained from a cache at a place."""
    shutil.copytree(run, folder)
    record = json.loads((run / "run.json").read_text())
    del record["xxh3"]
    record |= {"cache": place, **record_data(cache, TrainConfig())}
    (folder / "run.json").write_bytes(seal_json(record))
    return folder


def test_a_run_knows_the_cache_of_its_url_and_asks_no_url(
    run: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch) as store:
        push(made.directory)
        cache = FeatureCache(open_stage(URL, tmp_path / "stage"))
        here = load_run(trained_from(run, cache, str(made.directory), tmp_path / "here"), CPU)
        there = load_run(trained_from(run, cache, URL, tmp_path / "there"), CPU)
        assert there.cache == URL
        unknown = [replace(one, data=replace(one.data, splits=None)) for one in (there, here)]
        asked = store.calls
        (warning,) = warn_of_training_data(*unknown)
        assert f" of {URL}, " in warning
        assert store.calls == asked, "a run may be a stranger's"
        for one, own in zip(unknown, (True, False), strict=True):
            table = cache.split("train")
            found = describe_score([(one.data, one.config)], cache, "train", table)
            assert found.own_cache is own
        # Other questions at the same URL, of a data set that has another name by now.
        stores.forget()
        rows = [Row(0, 0, ("red",) * 10)] * 3
        push(make_cache(tmp_path / "new", {"train": rows}, dataset="other").directory)
        new = FeatureCache(open_stage(URL, tmp_path / "stage"))
        assert is_trained_on(there.data, there.config, new, "train")
        assert not is_trained_on(here.data, here.config, new, "train")


def test_a_cache_at_a_url_is_called_by_its_url(
    run: Path, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tmp_path / "stage"
    with memory(monkeypatch):
        push(scenes.directory)
        cache = FeatureCache(open_stage(URL, stage))
        loaded, here = load_run(run, CPU), cache.directory
        refusals: list[Callable[[], object]] = [
            lambda: cache.split("nowhere"),
            lambda: cache.pick("nothing"),
            lambda: cache.pick("", "9"),
            lambda: load_train_data(here, small(val_split="nope")),
            lambda: load_train_data(here, small(train_split="nope")),
            lambda: load_train_data(here, small(train_split="test")),
            lambda: load_train_data(here, small(val_split="test")),
            lambda: load_train_data(here, small(vision="nothing")),
            lambda: evaluate(loaded, cache, "nope"),
        ]
        for refused in refusals:
            with pytest.raises((CacheError, PipelineError)) as found:
                refused()
            said = str(found.value)
            assert URL in said
            assert str(stage) not in said
            assert not re.search("memory:/[^/]", said)
