"""The numbers of a report, each counted by hand."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.report.figures import calibrate, confuse, group_scores, read_curve
from frozen_vqa.pipeline.report.plots import curve_plots
from frozen_vqa.pipeline.runs.state import EpochLine, write_metrics
from tests.support.evaluations import ANSWER_TYPES, QUESTIONS, scored

EVERY = np.linspace(0, 1, QUESTIONS)


def test_groups_have_the_scores_of_the_evaluation_and_their_bounds() -> None:
    first, second = scored("one", EVERY), scored("two", np.full(QUESTIONS, 0.25), seed=1)
    given = [("red",)] * 120 + [("blue",)] * 80 + [("never known",)] * 40
    table = replace(first.table, answers=given)
    first, second = replace(first, table=table), replace(second, table=table)
    vocabulary = Vocabulary(("blue", "red"))
    classes = class_scores(given, vocabulary, metric=METRICS["plain"])
    sides = [SeedGroup((first,)), SeedGroup((first, second))]
    groups = {group.name: group for group in group_scores(sides, classes, vocabulary.answers)}
    assert list(groups) == ["overall", "yes/no", "other", "number", "is [the]", "how many", "what"]
    assert first.accuracy is not None
    whole = groups["overall"]
    assert whole.scores[0].accuracy == first.accuracy.overall
    assert whole.scores[1].accuracy == pytest.approx(100 * (EVERY.mean() + 0.25) / 2)
    assert whole.scores[0].interval.bounds is not None
    assert (whole.floor, whole.usual) == (50, "red")
    assert whole.ceiling == pytest.approx(100 * 200 / 240)
    yes_no = groups["yes/no"]
    assert yes_no.questions == ANSWER_TYPES.count("yes/no") == 210
    assert yes_no.scores[0].accuracy == first.accuracy.by_answer_type["yes/no"]
    assert yes_no.floor == pytest.approx(100 * 120 / 210)
    assert groups["number"].ceiling == 0
    assert groups["number"].scores[0].interval.reason == "worth 3 pictures, 75 needed"


def test_calibration() -> None:
    found = calibrate(np.array([0.05, 0.05, 0.95, 0.95, 1.0]), np.array([0, 1, 1, 1, 0.5]))
    assert [count for count, _, _ in found.bins] == [2, 3]
    assert found.bins[1] == (3, pytest.approx(2.9 / 3), pytest.approx(2.5 / 3))
    assert found.error == pytest.approx(100 * (2 * 0.45 + 3 * (2.9 / 3 - 2.5 / 3)) / 5)
    exact = calibrate(np.full(100, 0.7), np.repeat([1, 0], [70, 30]))
    assert exact.error == pytest.approx(0, abs=1e-9)


def test_confusions_count_every_question_of_a_frequent_answer() -> None:
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(14)]
    true = [words[min(13, int(i))] for i in rng.geometric(0.2, QUESTIONS) - 1]
    said = [t if rng.random() < 0.7 else words[int(rng.integers(14))] for t in true]
    one = scored("one", EVERY)
    given = [(t.upper(), t, t) for t in true]  # the same answer to the metric
    one = replace(one, table=replace(one.table, answers=given), answers=said)
    found = confuse(one, METRICS["plain"])
    assert len(found.answers) == 10
    for i, name in enumerate(found.answers):
        rows = [k for k, t in enumerate(true) if t == name.lower()]
        assert found.counts[i].sum() == len(rows)
        assert found.counts[i, i] == sum(said[k] == true[k] for k in rows)
    assert list(found.counts.sum(1)) == sorted(found.counts.sum(1), reverse=True)


def test_confusions_are_by_the_answers_and_the_normal_form_of_the_metric() -> None:
    """DAQUAR's answers are sets, SLAKE has one yes in two languages, and GQA tells all apart."""
    cases = {"daquar": (("lamp", "book"), "book, lamp"), "slake": (("Yes",), "是")}
    cases |= {
        "nlvr2": (("True",), "true"),
        "gqa": (("a cup",), "cup"),
        "plain": (("cup",), "a cup"),
    }
    for name, (given, said) in cases.items():
        one = scored("one", EVERY)
        one = replace(
            one, table=replace(one.table, answers=[given] * QUESTIONS), answers=[said] * QUESTIONS
        )
        right, other = confuse(one, METRICS[name]).counts[0]
        assert (right, other) == ((0, QUESTIONS) if name == "gqa" else (QUESTIONS, 0)), name


def test_figures_of_epochs_that_no_training_writes_are_no_curve(tmp_path: Path) -> None:
    """Whatever stands there, the page can be drawn."""
    lines = [asdict(EpochLine(i, 1 / i, 40.0 + i, 0.001, 1.0, 100.0, 0.0)) for i in (1, 2)]
    write_metrics(tmp_path, [EpochLine(**line) for line in lines])
    good = (tmp_path / "metrics.jsonl").read_text()
    found = read_curve(tmp_path)
    assert [asdict(one) for one in found] == lines
    assert len(curve_plots([("a", found), ("b", [])])) == 2
    forged = [-1e17, 10**400, 1.79e308, float("nan"), -5, True, "1", None, [1]]
    changed = [{**lines[0], name: value} for name in lines[0] for value in forged]
    texts = [good + json.dumps(line) for line in (*changed, [1], {"epoch": 1})]
    for bad in ("", "x", good + "[" * 9999, *texts):
        (tmp_path / "metrics.jsonl").write_text(bad)
        assert read_curve(tmp_path) == [], bad
    assert curve_plots([("none", read_curve(tmp_path / "none"))]) == []
