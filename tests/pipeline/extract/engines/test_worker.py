"""The command on workers: they open the same real encoders, and make the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frozen_vqa.pipeline.commands import extract_features
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.extract.engines import crew
from frozen_vqa.pipeline.extract.engines.worker import EncoderRecipe
from tests.support.command import run_command
from tests.support.fake_cluster import FakeCluster
from tests.support.frozen import files

COMMAND = (
    *("extract-features", "--dataset", "shapes:6", "--split", "val"),
    *("--vision-model", TINY, "--text-model", TINY, "--batch-size", "2"),
)


@pytest.mark.parametrize(
    "more", [pytest.param((), marks=pytest.mark.slow), ("--dtype", "int8", "--pool", "2")]
)
def test_the_command_makes_the_same_cache_on_workers(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def cluster(here: bool, address: str | None, device: str) -> Iterator[FakeCluster | None]:
        assert (address, device) == (None if here else "head:1", "auto")
        yield None if here else FakeCluster(2)

    monkeypatch.setattr(extract_features, "_ray_cluster", cluster)
    monkeypatch.setattr(crew, "LOOK", 0.0)
    monkeypatch.chdir(tmp_path)
    ray = ("--engine", "ray", "--address", "head:1", "--workers", "2")
    assert run_command(*COMMAND, *more, "--cache", "one").code == 0
    assert run_command(*COMMAND, *more, "--cache", "ray", *ray).code == 0
    assert files(tmp_path / "ray") == files(tmp_path / "one")


def test_a_recipe_is_pinned_to_what_the_driver_found() -> None:
    """A branch may move on the Hub before the next worker comes."""
    options = {"vision_revisions": [None, "v2"], "text_revision": "main"}
    local: Any = SimpleNamespace(checkpoint=SimpleNamespace(commit=None))
    hub = SimpleNamespace(checkpoint=SimpleNamespace(commit="0123"))
    found: Any = SimpleNamespace(each=(hub, local))

    pinned = EncoderRecipe(Path("features"), options).pinned(found, local)
    assert pinned.cache.is_absolute()
    assert pinned.options == options | {"vision_revisions": ["0123", "v2"]}
