"""A finished run that was evaluated, and what else is written of runs: answers, a table's rows."""

from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.commands.tables import Row
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.run import load_run
from tests.support.caches import Made
from tests.support.evaluations import make_rows
from tests.support.resuming import CPU
from tests.support.trainings import run_training

ANSWERS = Vocabulary(("red", "blue"))


@pytest.fixture
def rows() -> list[Row]:
    return make_rows()


@pytest.fixture(scope="module")
def trained(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was evaluated."""
    run = tmp_path_factory.mktemp("damage") / "run"
    run_training(scenes, run, epochs=1, fusion="concat")
    evaluated(scenes, run)
    return run


def evaluated(scenes: Made, run: Path, split: str = "val", **how: Any) -> None:
    evaluate(load_run(run, CPU), FeatureCache(scenes.directory), split, **how)
