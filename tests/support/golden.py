"""Golden files of official scripts: invented questions, and what the scripts gave."""

import json
from collections.abc import Mapping
from typing import Any

from frozen_vqa.pipeline.metrics.accuracy import Accuracy
from frozen_vqa.pipeline.metrics.score import score_files
from tests.support.repository import DATA

GOLDEN = DATA / "golden"


def score(
    folder: str, annotations: str, predictions: str = "predictions.json", **how: Any
) -> tuple[Accuracy, dict[str, float]]:
    place = GOLDEN / folder
    paths = {name: place / file for name, file in how.items() if name == "questions"}
    found, each = score_files(
        predictions=place / predictions, annotations=place / annotations, **{**how, **paths}
    )
    return found, {str(name): percent for name, percent in each.items()}


def expected(folder: str) -> Any:
    return json.loads((GOLDEN / folder / "expected.json").read_text())


def values(found: Accuracy, kind: str) -> dict[str, float]:
    return {name: one.value for name, one in found.groups[kind].items()}


def rounded(figures: Mapping[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in figures.items()}


def percents(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * share for name, share in shares.items()}
