"""The targets and the classes of a training are those of its metric."""

from dataclasses import replace
from pathlib import Path

import pytest

from frozen_vqa.pipeline.batches.dataset import FeatureDataset
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.train.data import TrainData, load_train_data
from tests.support.caches import Row, make_cache
from tests.support.trainings import SMALL

ROWS = [
    Row(0, 0, ("X-Ray",), groups={"difficult": "yes"}),
    Row(1, 1, ("x ray",), groups={"difficult": "no"}),
    Row(2, 2, ("Lung, Liver",), groups={"difficult": "no"}),
    Row(3, 3, ("没有",), groups={"difficult": "no"}),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("slake")
    make_cache(place, {"train": ROWS, "val": ROWS}, metric="slake")
    return place


def load(cache: Path, metric: str = "") -> TrainData:
    return load_train_data(cache, replace(SMALL, metric=metric))


def test_the_data_name_the_metric_and_settings_win(cache: Path, tmp_path: Path) -> None:
    assert load(cache).metric.name == "slake"
    assert load(cache, "gqa").metric.name == "gqa"
    assert FeatureDataset(cache, "train", min_answer_count=1).metric == "slake"
    make_cache(tmp_path, {"train": ROWS, "val": ROWS})
    assert load(tmp_path).metric.name == "plain"
    with pytest.raises(MetricError, match="unknown metric 'slak'; did you mean 'slake'"):
        load(cache, "slak")


def test_classes_are_by_its_normal_form(cache: Path) -> None:
    assert len(load(cache).vocabulary) == 3
    assert len(load(cache, "gqa").vocabulary) == 4
    answers = load(cache).vocabulary.answers
    assert answers[0] == "X-Ray"  # the first in the order of characters
    scores = load(cache).scores["train"]
    assert scores.classes.tolist()[:2] == [0, 0]
    assert scores.targets.tolist() == [1.0] * 4


def test_the_ceiling_is_of_the_questions_that_count(cache: Path) -> None:
    """A-OKVQA leaves the difficult ones out; one match of ten is a third."""
    data = load(cache, "aokvqa-da")
    assert data.counted["val"].tolist() == [False, True, True, True]
    assert data.scores["val"].targets.tolist() == pytest.approx([1 / 3] * 4)
    assert data.ceilings["val"] == pytest.approx(100 / 3)
