"""A run folder of a head with random weights, and changes to its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.caches import Made, Row, make_cache
from tests.support.heads import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("runs"), {"train": [Row(0, 0)]})


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Path:
    make_run(made, tmp_path / "run")
    return tmp_path / "run"


def edit_json(path: Path, change: Callable[[dict], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
