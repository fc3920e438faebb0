"""A finished run that was evaluated, and what else is written of runs: answers, a table's rows."""

from pathlib import Path
from typing import Any

import pytest
from caches import Made
from evaluations import make_rows
from resuming import CPU
from trainings import run_training

from cache import FeatureCache
from pipeline.answers import Vocabulary
from pipeline.evaluate import evaluate
from pipeline.runs import load_run
from pipeline.table_file import Row

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
