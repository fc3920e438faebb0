"""Every row, table and card shows the same intervals, those of `evaluate/statistics.py`."""

from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.statistics import Interval, mean_interval
from frozen_vqa.pipeline.runs.card import CARD
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.system.console import console
from tests.support.caches import Row, make_cache
from tests.support.command import run_command
from tests.support.trainings import CPU, run_training

WORDS = ("red", "blue")


def shown(interval: Interval, form: str) -> str:
    return f"none: {interval.reason}" if not interval.bounds else form.format(*interval.bounds)


def test_each_output_has_the_intervals_of_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 1000)  # no cell is broken into lines
    rng = np.random.default_rng(0)
    kinds = [("colour", "is the")] * 9 + [("place", "where")]
    rows = [
        Row(i // 2, i % 8, (WORDS[i // 2 % 2],) * 10, *kinds[i % 10])
        for i in rng.permutation(200).tolist()
    ]
    made = make_cache(tmp_path / "cache", {"train": rows, "val": rows})
    runs = {name: tmp_path / name for name in ("a", "b")}
    scores = {}
    for seed, (name, run) in enumerate(runs.items()):
        run_training(made, run, epochs=1, fusion="concat", seed=seed)
        scores[name] = evaluate(load_run(run, CPU), FeatureCache(made.directory), "val").scores
    assert scores["a"] is not None
    assert scores["b"] is not None
    pictures = np.array([row.image for row in rows])
    table = tmp_path / "table.md"

    words = ("--run", runs["a"], "--compare", runs["b"], "--table", table)
    found = run_command("evaluate", *words, "--json")

    own = mean_interval(100 * scores["a"], pictures, least=0, largest=100)
    assert own.bounds is not None
    assert own.to_json().items() <= found.json().items()
    assert f"[{shown(own, '{:.2f}, {:.2f}')}]" in found.err
    assert f"| {shown(own, '{:.2f} to {:.2f}')} |" in (runs["a"] / CARD).read_text()
    (compared,) = found.json()["compare"]
    differences, missing = 100 * (scores["a"] - scores["b"]), 0
    for line in compared["rows"]:
        named = {"answer type": "answer_type", "question type": "question_type"}.get(line["kind"])
        here = np.array([not named or getattr(row, named) == line["group"] for row in rows])
        apart = mean_interval(differences[here], pictures[here], least=-100, largest=100)
        missing += apart.bounds is None
        assert apart.to_json().items() <= line.items()
        assert f"[{shown(apart, '{:+.2f}, {:+.2f}')}]" in found.err
        if not named:
            assert shown(apart, "{:+.2f}, {:+.2f}") in table.read_text()
    assert missing == 2  # of the types with 20 questions
