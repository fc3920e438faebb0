"""A training from a URL is that from a local cache, to the last bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheError
from frozen_vqa.cache.arrivals import arrivals_of
from frozen_vqa.cache.errors import StoreError
from frozen_vqa.cache.stores.stage import open_stage
from frozen_vqa.pipeline.batches.residency import Residency
from frozen_vqa.pipeline.runs.description import open_cache, read_record
from frozen_vqa.pipeline.train.data import load_train_data
from frozen_vqa.pipeline.train.train import train
from tests.support import stores
from tests.support.caches import Made
from tests.support.stores import URL, Flaky, memory, push
from tests.support.trainings import CPU, run_training, small


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    stores.forget()
    yield
    stores.forget()


@pytest.mark.parametrize("residency", ["mapped", pytest.param("ram", marks=pytest.mark.slow)])
def test_a_training_from_a_url_ends_in_the_same_weights(
    residency: Residency, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(scenes, tmp_path / "local", epochs=1)
    expected = (tmp_path / "local" / "model.safetensors").read_bytes()
    with memory(monkeypatch):
        push(scenes.directory)
    run = tmp_path / "there"
    with memory(monkeypatch, Flaky(fails=0.05, cuts=0.05)) as store:
        place = open_stage(URL, tmp_path / "stage")
        train(place, run, config=small(epochs=1), device=CPU, residency=residency)
        asked = store.calls
    assert (run / "model.safetensors").read_bytes() == expected
    assert asked < 20
    assert read_record(run)["cache"] == URL
    with pytest.raises(CacheError, match=r"No URL is asked unless the command names it: --ca"):
        open_cache(run, None)
    assert store.calls == asked


def test_a_stage_that_is_too_small_is_said_before_the_training(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory(monkeypatch):
        push(scenes.directory)
        place = open_stage(URL, tmp_path / "stage")
        data = load_train_data(place, small())
        monkeypatch.setattr(arrivals_of(place), "_room", 10_000)
        with pytest.raises(StoreError, match=r"takes 10,000 at most\. Give --stage"):
            train(
                place, tmp_path / "run", config=small(), device=CPU, data=data, residency="mapped"
            )
        assert not (tmp_path / "run").exists()
