"""Tables for people: what stands in them, on stderr alone."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import Failure
from frozen_vqa.cache.left_out import LeftOutQuestions
from frozen_vqa.pipeline.commands.tables import (
    Row,
    fill_cells,
    format_interval,
    format_probability,
    show_accuracy,
    show_comparison,
    show_evaluation,
    show_heads,
)
from frozen_vqa.pipeline.evaluate.compare import compare
from frozen_vqa.pipeline.evaluate.statistics import Interval
from frozen_vqa.pipeline.metrics.accuracy import Accuracy, Figure
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules, accuracy
from frozen_vqa.pipeline.runs.data import ScoredData
from frozen_vqa.pipeline.system.console import console
from tests.support.evaluations import (
    ANSWER_TYPES,
    QUESTION_TYPES,
    QUESTIONS,
    group,
    make_evaluation,
    make_heads,
    scored,
)


def test_the_table_of_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = map(group, make_heads())
    rows = compare(ours, theirs)
    show_comparison(ours, theirs, rows)
    found = capsys.readouterr()
    assert found.out == ""
    lines = [line.split() for line in found.err.splitlines()]
    for row in rows:
        (line,) = (words for words in lines if row.group in " ".join(words) and "│" in words)
        assert f"{row.ours:.2f}" in line
        assert f"{row.theirs:.2f}" in line
        assert f"{row.difference:+.2f}" in line
        assert format_probability(row.test.p) in line
    assert "ours against theirs on val" in found.err


def test_no_word_is_broken_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 66)
    ours, theirs = map(group, make_heads())
    rows = [replace(row, group="generated comparison") for row in compare(ours, theirs)]
    show_comparison(ours, theirs, rows)
    assert {"generated", "comparison"} <= set(capsys.readouterr().err.split())


def test_a_run_in_the_folder_where_one_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ours, theirs = make_heads()
    mine = group(replace(ours, run=Path(), variant="shuffled-images"))
    show_comparison(mine, group(theirs), compare(mine, group(theirs)))
    assert "here (shuffled-images) against theirs on val" in capsys.readouterr().err


def test_groups_that_are_numbers_stand_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["10", "two", "9", "2 steps", "11 steps", "a"]
    each = {name: Figure(50.0, 3) for name in names}
    show_accuracy(Accuracy(50.0, {"words": each}, 18, "gqa"), "x")
    found = re.findall(r"words: ([\w ]*?) *│", capsys.readouterr().err)
    assert found == ["a", "two", "2 steps", "9", "10", "11 steps"]


def test_only_accuracies_stand_under_the_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure has a table of its own, where each value has its unit."""
    figures = {"RMSE": Figure(0.7512, 9, unit=""), "chance": Figure(25.0, 8)}
    show_accuracy(Accuracy(50.0, {}, 9, "tallyqa", figures), "x")
    first, rest = capsys.readouterr().err.split("beside the accuracy")
    assert "accuracy, %" in first
    assert "RMSE" not in first
    cells = [[cell.strip() for cell in line.split("│")] for line in rest.splitlines()]
    assert ["", "RMSE", "0.75", "9", ""] in cells
    assert ["", "chance", "25.00 %", "8", ""] in cells


def test_the_table_of_a_head(capsys: pytest.CaptureFixture[str]) -> None:
    head, _ = make_heads()
    assert head.scores is not None
    found = accuracy(list(head.scores), ANSWER_TYPES, QUESTION_TYPES, "2021")
    left_out = LeftOutQuestions(
        unusable=[
            Failure(5, "a.jsonl:7", "question is blank", "val"),
            Failure(None, "", "", "val"),
        ],
        without_picture=4,
        ids=[5, 6, 7, 8],
        unknown=2,
    )
    scored = replace(head, accuracy=found, ceiling=97.25, left_out=left_out)
    scored = replace(scored, interval=Interval((12.345, 67.891)))
    show_evaluation(scored)
    output = capsys.readouterr()
    assert output.out == ""
    for text in (
        f"{found.overall:.2f} [12.35, 67.89]",
        f"{found.by_answer_type['number']:.2f}",
        "is [the]",
        "rules of 2021",
        "97.25 %",
        "2 questions are left out because they cannot be used; the first is a.jsonl:7: question is",
        "4 questions are left out because their pictures cannot be read\n",
        "the results answer 4 of these questions with an empty text; with them the accuracy is "
        f"{found.overall * QUESTIONS / (QUESTIONS + 4):.2f} %\n",
        "the results lack 2 of these questions",
        "results.json",
    ):
        assert text in output.err

    show_evaluation(make_evaluation("nothing", None))
    assert "val: no answers to score against; predictions only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("interval", "sign", "shown"),
    [
        (Interval((-1.234, 5.678)), "+", "[-1.23, +5.68]"),
        (Interval((1.234, 5.678)), "", "[1.23, 5.68]"),
        (Interval(None, "worth 4 pictures, 75 needed"), "+", "[none: worth 4 pictures, 75 needed]"),
    ],
)
def test_intervals(interval: Interval, sign: str, shown: str) -> None:
    assert format_interval(interval, sign) == shown


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (1.0, "1.00"),
        (0.4321, "0.43"),
        (0.0999, "0.100"),
        (0.0432, "0.043"),
        (0.001, "0.001"),
        (5e-5, "<0.001"),
    ],
)
def test_probabilities_have_the_digits_that_the_draws_support(p: float, shown: str) -> None:
    assert format_probability(p) == shown


@pytest.mark.parametrize("rules", ["2021", "2017", "plain"])
def test_the_table_names_its_rules(rules: Rules, capsys: pytest.CaptureFixture[str]) -> None:
    found = accuracy([1.0], ["other"], ["what"], rules)
    show_accuracy(found, "a title")
    assert {"2021": "2021", "2017": "2017", "plain": "plain accuracy"}[
        rules
    ] in capsys.readouterr().err


def test_heads_are_rows_and_types_are_columns(capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        name: accuracy([right, 0.3, 0.0], ["yes/no", "other", "number"], [""] * 3, "2021")
        for name, right in (("concat", 1.0), ("image-only", 0.0))
    }
    show_heads(found, "a title")
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().err.splitlines()]
    assert ["a", "title"] in lines
    assert ["concat", "43.33", "0.00", "30.00", "100.00"] in lines
    assert ["image-only", "10.00", "0.00", "30.00", "0.00"] in lines


def test_a_table_says_that_the_split_chose_the_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    data = ScoredData("jsonl:d", "0" * 32, True, False, chosen_on=True)
    head = replace(scored("a", np.ones(QUESTIONS)), data=data, ceiling=100.0)
    show_evaluation(head)
    said = " ".join(capsys.readouterr().err.split())
    assert "best epoch was chosen on these questions" in said
    assert fill_cells([Row(group(head))])[1][0] == "a, concat, epoch chosen on this split"
    show_evaluation(replace(head, data=replace(data, chosen_on=False)))
    assert "chosen" not in capsys.readouterr().err
