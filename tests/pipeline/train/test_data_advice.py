"""Settings that do not fit the data are named, with what others would allow."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.train import data as data_module
from frozen_vqa.pipeline.train.data import COUNTS, load_train_data
from tests.support.caches import Made, Row, make_cache

CONFIG = TrainConfig(min_answer_count=9, batch_size=8)


@pytest.fixture(scope="module", params=range(3))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Splits whose answers are as unequally frequent as those of people."""
    rng = np.random.default_rng(request.param)
    rows = [Row(i % 3, i % 2, (f"answer {min(40, rng.geometric(0.12))}",)) for i in range(120)]
    place = tmp_path_factory.mktemp("advice")
    return make_cache(place, {"train": rows, "val": rows[::3]})


def advice(made: Made, config: TrainConfig) -> list[str]:
    return list(load_train_data(made.directory, config).advise(config))


def test_a_low_ceiling_shows_what_other_classes_allow(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "TOPS", (2, 5, 1000))
    first, *others = advice(made, CONFIG)
    lowest = min(load_train_data(made.directory, CONFIG).ceilings.values())
    assert lowest < data_module.LOW_CEILING
    assert first.startswith("warning: ")
    assert f"cannot exceed {lowest:.2f} %" in first
    found = {}
    for line in others:
        name, answers, ceilings = re.fullmatch(r"  (.*\d) +([\d,]+) answers, (.*)", line).groups()  # type: ignore[union-attr]
        found[name] = (int(answers), ceilings)
    expected = {}
    for key, changes in {
        **{f"--min-answer-count {n}": {"min_answer_count": n} for n in COUNTS},
        **{f"top_answers = {n}": {"min_answer_count": 1, "top_answers": n} for n in (2, 5)},
    }.items():
        try:
            there = load_train_data(made.directory, replace(CONFIG, **changes))
        except ConfigError:
            continue
        text = " and ".join(f"{value:.2f} % on {name}" for name, value in there.ceilings.items())
        expected[key] = (len(there.vocabulary), text)
    assert found == expected


def test_enough_classes_get_no_warning(made: Made) -> None:
    assert advice(made, replace(CONFIG, min_answer_count=1)) == []


@pytest.mark.parametrize(("size", "warned"), [(120, False), (121, True), (256, True)])
def test_a_batch_that_is_larger_than_the_split(made: Made, size: int, warned: bool) -> None:
    found = advice(made, replace(CONFIG, min_answer_count=1, batch_size=size))
    assert bool(found) == warned
    if warned:
        assert (
            f"a batch of {size} is larger than split 'train', which has 120 questions" in found[0]
        )


def test_a_file_of_answers_is_warned_of_too(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "answers.txt"
    file.write_text("answer 1\n")
    assert len(advice(made, replace(CONFIG, answers_file=str(file)))) > 2
