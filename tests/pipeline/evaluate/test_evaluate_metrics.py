"""A head under the metric of its data set: figures, questions that count, official files."""

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.answers.questions import given_answers
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.compare import compare
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
from frozen_vqa.pipeline.metrics.accuracy import group_title
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.metrics.named import daquar
from frozen_vqa.pipeline.report.figures import group_scores
from frozen_vqa.pipeline.runs.run import Run, load_run
from tests.support.caches import Made, Row, make_cache
from tests.support.heads import make_run

CPU = torch.device("cpu")
COUNT = 24


def rows_of(name: str) -> list[Row]:
    """Questions as the source of a data set has them."""
    made: list[Row] = []
    for i in range(COUNT):
        base: dict[str, Any] = {"image": i % 6, "question": i % 8}
        if name == "vizwiz":
            given, answerable = [(("tea",) * 10, "yes"), (("unanswerable",) * 10, "no")][i % 2]
            made.append(Row(**base, answers=given, groups={"answerable": answerable}))
        elif name == "tallyqa":
            groups = {"source": ["amt", "imported_vqa"][i % 2], "simple": ["no", "yes"][i % 2]}
            made.append(Row(**base, answers=(str(i % 4),), groups=groups))
        elif name == "clevr":
            kind = ("query_color", "query_size", "less_than", "exist", "")[i % 5]
            made.append(Row(**base, answers=(str(i % 4),), question_type=kind))
        elif name == "aokvqa":
            groups = {"difficult": "yes" if i % 3 == 0 else "no"}
            choices = ("tea", "cup", "rain", "a dog")
            more = {"groups": groups, "choices": choices, "right": i % 4}
            made.append(Row(**base, answers=("tea", "tea", "cup") * 3 + ("rain",), **more))
        elif name == "nlvr2":
            made.append(Row(**base, answers=(["True", "False"][i % 2],)))
        else:
            made.append(Row(**base, answers=("lamp", "book")[: 1 + i % 2]))
    return made


VOCABULARIES = {
    "vizwiz": ("tea", "unanswerable", "no"),
    "tallyqa": ("0", "1", "2", "3"),
    "clevr": ("0", "1", "2"),
    "aokvqa": ("tea", "cup", "rain"),
    "nlvr2": ("True", "False"),
    "daquar": ("lamp", "book, lamp"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Made, Run]]:
    found = {}
    for name, answers in VOCABULARIES.items():
        place = tmp_path_factory.mktemp(name)
        made = make_cache(place / "cache", {"val": rows_of(name)}, metric=name)
        make_run(made, place / "run", vocabulary=Vocabulary(answers), seed=3)
        found[name] = (made, load_run(place / "run", CPU))
    return found


@pytest.fixture(autouse=True)
def _no_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    daquar.wu_palmer.cache_clear()


def test_vizwiz_says_how_sure_it_is_of_an_answer(places: dict[str, tuple[Made, Run]]) -> None:
    made, run = places["vizwiz"]
    found = evaluate(run, made.directory, "val", keep_logits=True)
    assert found.accuracy is not None
    assert found.accuracy.metric == "vizwiz"
    assert found.accuracy.groups["answerable"]["yes"].questions == COUNT // 2
    assert found.accuracy.figures["unanswerable, F1"].questions == COUNT
    assert found.results is not None
    entries = json.loads(found.results.read_text())
    assert [entry["image"] for entry in entries] == [100 + i for i in range(COUNT)]
    assert found.logits is not None
    logits, _, answers = load_logits(found.logits)
    doubt = logits[:, list(answers).index("unanswerable")].astype(float)
    sure = 1 - 1 / (1 + np.exp(-doubt))
    assert [entry["answerable"] for entry in entries] == pytest.approx(sure.tolist())
    said = (run.path / "evaluation/val/scores.json").read_text()
    assert json.loads(said)["figures"]["unanswerable, F1"]["questions"] == COUNT


def test_tallyqa_has_its_root_mean_squared_error(places: dict[str, tuple[Made, Run]]) -> None:
    made, run = places["tallyqa"]
    found = evaluate(run, made.directory, "val", write=False)
    assert found.accuracy is not None
    true = np.array([int(row.answers[0]) for row in made.splits["val"]])
    said = np.array([int(answer) for answer in found.answers])
    error = np.sqrt(np.mean((true - said) ** 2))
    assert found.accuracy.figures["RMSE"].value == pytest.approx(error)
    amt = np.arange(COUNT) % 2 == 0
    error = np.sqrt(np.mean((true - said)[amt] ** 2))
    assert found.accuracy.figures["RMSE, part: complex (amt)"].value == pytest.approx(error)
    assert found.accuracy.figures["RMSE, part: complex (amt)"].questions == COUNT // 2


def test_difficult_questions_are_answered_and_not_counted(
    places: dict[str, tuple[Made, Run]],
) -> None:
    made, run = places["aokvqa"]
    found = evaluate(run, made.directory, "val", metric="aokvqa-da")
    counted = [i for i in range(COUNT) if i % 3]
    shares = {"tea": 1.0, "cup": 1.0, "rain": 1 / 3}
    assert found.scores is not None
    assert found.scores.tolist() == [shares[answer] for answer in found.answers]
    assert found.table.question_ids == [100 + i for i in counted]
    assert found.accuracy is not None
    assert found.accuracy.overall == pytest.approx(100 * found.scores.mean())
    assert found.ceiling == pytest.approx(100.0)
    assert found.results is not None
    written = json.loads(found.results.read_text())
    assert len(written) == COUNT
    assert {key for one in written.values() for key in one} == {"direct_answer"}
    choice = evaluate(run, made.directory, "val", write=False)
    assert choice.accuracy is not None
    assert choice.accuracy.metric == "aokvqa"
    assert choice.accuracy.questions == COUNT
    assert choice.accuracy.figures["chance"].value == 25.0
    assert choice.ceiling == 75.0  # "a dog" is no class


def test_the_results_file_is_that_of_the_metric(places: dict[str, tuple[Made, Run]]) -> None:
    """One at a time: that of another metric would be of other answers."""
    made, run = places["nlvr2"]
    first = evaluate(run, made.directory, "val")
    assert first.results == run.path / "evaluation/val/results.csv"
    lines = first.results.read_text().splitlines()
    answers = zip(range(COUNT), first.answers, strict=True)
    assert lines == [f"{100 + i},{answer}" for i, answer in answers]
    assert first.accuracy is not None
    assert "consistency" in first.accuracy.figures
    second = evaluate(run, made.directory, "val", metric="plain")
    assert second.results == run.path / "evaluation/val/results.json"
    names = {path.name for path in (run.path / "evaluation/val").iterdir()}
    assert names == {"results.json", "scores.json"}


def test_without_wordnet_the_accuracy_is_there(places: dict[str, tuple[Made, Run]]) -> None:
    made, run = places["daquar"]
    found = evaluate(run, made.directory, "val")
    assert found.accuracy is not None
    wanted = [
        set(answer.split(", ")) == set(row.answers)
        for answer, row in zip(found.answers, made.splits["val"], strict=True)
    ]
    assert found.accuracy.overall == pytest.approx(100 * np.mean(wanted))
    assert found.accuracy.figures == {}
    assert found.ceiling == 100.0
    assert "pip install 'frozen-vqa[daquar]'" in found.not_written[0]
    assert found.results is not None
    assert found.results.read_text() == "".join(f"{answer}\n" for answer in found.answers)


def test_what_names_the_metric(places: dict[str, tuple[Made, Run]]) -> None:
    """The call, then the settings of the run, then the data, then the number of answers."""
    made, run = places["tallyqa"]
    settled = replace(run, config=replace(run.config, metric="clevr"))
    cache = FeatureCache(made.directory)

    def chosen(one: Run, metric: str | None = None) -> str:
        found = evaluate(one, cache, "val", metric=metric, write=False)
        assert found.accuracy is not None
        return found.accuracy.metric

    assert chosen(run) == "tallyqa"
    assert chosen(settled) == "clevr"
    assert chosen(settled, "gqa") == "gqa"
    with pytest.raises(MetricError, match="unknown metric 'tally'; did you mean 'tallyqa'"):
        chosen(run, "tally")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_comparisons_and_reports_have_the_groups_of_the_scores(
    name: str, places: dict[str, tuple[Made, Run]]
) -> None:
    """With the same questions and, to the last digit, the same accuracy."""
    made, run = places[name]
    found = evaluate(run, made.directory, "val", write=False)
    assert found.accuracy is not None
    wanted = {("overall", "overall"): (found.accuracy.overall, len(found.table))} | {
        (kind.replace("_", " "), group): (one.value, one.questions)
        for kind, groups in found.accuracy.groups.items()
        for group, one in groups.items()
    }
    kinds = {kind for kind, _ in wanted}
    assert kinds >= {"tallyqa": {"part", "simple"}, "clevr": {"program"}}.get(name, set())
    side, metric = SeedGroup((found,)), METRICS[name]
    compared = compare(side, side)
    assert {(row.kind, row.group): row.questions for row in compared} == {
        key: questions for key, (_, questions) in wanted.items()
    }
    assert all(row.ours == pytest.approx(wanted[row.kind, row.group][0]) for row in compared)
    classes = class_scores(given_answers(found.table, metric), run.vocabulary, metric=metric)
    reported = group_scores([side], classes, run.vocabulary.answers)
    assert [(one.name, one.scores[0].accuracy, one.questions) for one in reported] == [
        (group_title(row.kind, row.group), *wanted[row.kind, row.group]) for row in compared
    ]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_no_head_is_above_its_ceiling(name: str, places: dict[str, tuple[Made, Run]]) -> None:
    made, run = places[name]
    for metric in (name, "plain", "slake", "visual7w"):
        found = evaluate(run, made.directory, "val", metric=metric, write=False)
        assert found.accuracy is not None
        assert found.ceiling is not None
        assert found.accuracy.overall <= found.ceiling + 1e-9
        assert found.accuracy.metric in METRICS
