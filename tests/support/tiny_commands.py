"""Commands on generated shapes with the tiny encoders: a cache and a run within seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.support.command import Finished, run_command

TINY = ("--vision-model", "tiny", "--text-model", "tiny")


@contextmanager
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let commands find the tiny encoders in a folder of the tests, and no Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with at_home(tmp_path_factory):
        yield


def extract(place: Path, *words: object) -> Finished:
    dataset = () if "--dataset" in words else ("--dataset", "shapes:8")
    models = () if "--vision-model" in words else TINY  # a second model would be added
    return run_command("extract-features", "--cache", place / "cache", *dataset, *models, *words)


def train(place: Path, *words: object) -> Finished:
    head = ("--epochs", 1, "--width", 16, "--min-answer-count", 1)
    return run_command(
        "train-head", "--cache", place / "cache", "--run", place / "run", *head, *words
    )
