"""Which runs are seeds of one training, and what several come to."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError, MetricError
from frozen_vqa.pipeline.evaluate.compare import compare
from frozen_vqa.pipeline.evaluate.seed_groups import group_runs, require_one_group
from frozen_vqa.pipeline.evaluate.statistics import mean_interval
from frozen_vqa.pipeline.runs.run import Run
from tests.support.evaluations import (
    ANSWER_TYPES,
    PICTURES,
    QUESTIONS,
    group,
    make_evaluation,
    scored,
)


def run(name: str, **settings: Any) -> Run:
    return cast(Run, SimpleNamespace(path=Path(name), config=TrainConfig(**settings)))


def test_runs_are_grouped_by_settings_but_the_seed() -> None:
    runs = [
        run("a0"),
        run("b0", fusion="concat"),
        run("a1", seed=1),
        run("again", seed=1),
        run("b1", fusion="concat", seed=4),
        run("wide", width=64, seed=2),
    ]
    found = [[str(one.path) for one in side] for side in group_runs(runs)]
    assert found == [["a0", "a1"], ["b0", "b1"], ["again"], ["wide"]]


def test_runs_of_one_side_differ_by_their_seed_alone() -> None:
    require_one_group([run("a0"), run("a1", seed=1), run("a2", seed=2, order_seed=2)])
    with pytest.raises(ConfigError, match=r"a0 and wide differ by more .*: width is 256 and 64"):
        require_one_group([run("a0"), run("wide", width=64, seed=1)])
    with pytest.raises(ConfigError, match="a0 and a1 both have seed 3"):
        require_one_group([run("a0", seed=3), run("a1", seed=3)])


def test_a_side_is_the_mean_over_its_seeds() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = (rng.choice([0, 0.3, 1], (n, QUESTIONS)) for n in (3, 2))
    rows = compare(
        group(*(scored(f"a{i}", one) for i, one in enumerate(ours))),
        group(*(scored(f"b{i}", one) for i, one in enumerate(theirs))),
    )
    overall = rows[0]
    each = 100 * (ours.mean(0) - theirs.mean(0))
    assert overall.difference == pytest.approx(each.mean())
    assert overall.interval == mean_interval(each, PICTURES, least=-100, largest=100)
    assert overall.interval.bounds is not None
    by_seed = [100 * one.mean() for one in ours]
    mean = sum(by_seed) / 3
    assert overall.ours == pytest.approx(mean)
    assert overall.ours_sd == pytest.approx((sum((v - mean) ** 2 for v in by_seed) / 2) ** 0.5)
    apart = 100 * abs(theirs[0].mean() - theirs[1].mean())
    assert overall.theirs_sd == pytest.approx(apart / 2**0.5)
    found = group(*(scored(f"a{i}", one, i) for i, one in enumerate(ours))).spreads()
    compared = {row.group: (row.ours, row.ours_sd) for row in rows if row.kind != "question type"}
    assert list(found) == ["overall", "number", "other", "yes/no"]
    for name, values in found.items():  # before rounding: the two tables agree to the last digit
        assert values == pytest.approx(compared[name], rel=1e-12)
    number = np.array(ANSWER_TYPES) == "number"
    (row,) = (row for row in rows if row.group == "number")
    assert row.ours_sd == pytest.approx(np.std(100 * ours[:, number].mean(1), ddof=1))


def test_json_of_a_side() -> None:
    one, two = (
        scored("a", np.full(QUESTIONS, value), seed) for seed, value in ((3, 0.3), (8, 0.9))
    )
    assert group(one).to_json() == one.to_json()
    found = group(one, two).to_json()
    assert found["seeds"] == [3, 8]
    assert found["mean"] == {"overall": 60, "number": 60, "other": 60, "yes/no": 60}
    assert found["sd"]["overall"] == pytest.approx(60 / 2**0.5, abs=0.005)
    assert [entry["accuracy"]["overall"] for entry in found["runs"]] == [30, 90]
    assert group(one).spreads()["overall"] == (30, None)
    with pytest.raises(MetricError, match="nothing has no accuracy"):
        group(make_evaluation("nothing", None)).spreads()
