"""Every metric on a small set in its official layout, and files that cannot be scored."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import MetricError, PipelineError, SourceError
from frozen_vqa.pipeline.metrics.find import LAYOUTS, METRICS
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered
from frozen_vqa.pipeline.metrics.named import daquar
from frozen_vqa.pipeline.metrics.records import annotations_of, find_layout, read_content
from frozen_vqa.pipeline.metrics.score import score_files
from tests.support.official_sets import SETS, write_set


@pytest.fixture(autouse=True)
def _no_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daquar, "wu_palmer", lambda one, other: 0.0)


def test_there_is_a_set_of_each_metric() -> None:
    assert set(SETS) == set(METRICS) - {"2021", "2017", "plain", "choice"}


@pytest.mark.parametrize("name", SETS)
def test_a_set_scores_what_its_rule_says(name: str, tmp_path: Path) -> None:
    wanted = SETS[name]
    annotations, predictions = write_set(tmp_path, name)
    metric = name if name == "aokvqa-da" else None  # else the layout tells it
    found, each = score_files(predictions=predictions, annotations=annotations, metric=metric)
    assert found.metric == name
    assert list(each.values()) == pytest.approx(wanted.percents, abs=1e-12)
    assert found.questions == len(wanted.percents)
    assert found.overall == pytest.approx(sum(wanted.percents) / len(wanted.percents))
    for kind, groups in wanted.groups.items():
        got = {group: one.value for group, one in found.groups[kind].items()}
        assert {group: got[group] for group in groups} == pytest.approx(groups)
    for figure, value in wanted.figures.items():
        assert found.figures[figure].value == pytest.approx(value)
    as_json: Any = found.to_json()  # each figure with its number of questions
    for groups in as_json["groups"].values():
        assert all(0 < one["questions"] <= found.questions for one in groups.values())


BY_PLACE = ("pathvqa", "daquar")


@pytest.mark.parametrize("name", sorted(set(SETS) - set(BY_PLACE)))
def test_the_order_of_predictions_is_of_no_account(name: str, tmp_path: Path) -> None:
    annotations, predictions = write_set(tmp_path, name)
    whole = score_files(predictions=predictions, annotations=annotations, metric=name)
    content, mix = SETS[name].predictions, random.Random(1).shuffle
    if isinstance(content, str):
        lines = content.splitlines(keepends=True)
        mix(lines)
        predictions.write_text("".join(lines))
    else:
        items = list(content.items()) if isinstance(content, dict) else list(content)
        mix(items)
        predictions.write_text(json.dumps(dict(items) if isinstance(content, dict) else items))
    assert score_files(predictions=predictions, annotations=annotations, metric=name) == whole


@pytest.mark.parametrize("name", SETS)
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    """The given answers, written as official results, score all that can be scored."""
    annotations, _ = write_set(tmp_path, name)
    metric, content = METRICS[name], read_content(annotations)
    layout = metric.layout
    found = find_layout(content, LAYOUTS)
    assert found is not None
    assert found.form is layout.form
    every = annotations_of(annotations, content, layout)
    kept = [one for one in every if one.split == every[0].split]
    answered = [Answered(one, next(iter(metric.given(one)), ""), 1.0) for one in kept]
    text = layout.write(layout, answered)
    results = tmp_path / layout.results
    results.write_text(text, encoding="utf-8")
    _, each = score_files(predictions=results, annotations=annotations, metric=name)
    right = [
        metric.percent(metric.score(one.answer, metric.given(one.question)))
        for one in answered
        if metric.counts(one.question)
    ]
    assert list(each.values()) == right
    assert max(right) > 0


ENTRIES: dict[str, Any] = {
    "vizwiz": {"image": "", "answer": ""},
    "textvqa": {"question_id": 0, "answer": ""},
    "gqa": {"questionId": "", "prediction": ""},
    "clevr": {"question_index": 0, "answer": ""},
    "aokvqa": {"multiple_choice": ""},
    "aokvqa-da": {"direct_answer": ""},
    "vqa-rad": {"qid": "", "answer": ""},  # that of the first question is a text
    "slake": {"qid": 0, "answer": ""},
    "pathvqa": "",
    "tallyqa": {"question_id": 0, "answer": 0},  # the script subtracts it
    "daquar": None,
    "visual7w": {"qa_id": 0, "candidates": []},
    "scienceqa": {"question_id": "", "prompt": "", "text": ""},  # the script looks into the prompt
    "nlvr2": None,
}
"""What an official script reads of an entry, in its type; None: a line that is no JSON."""


@pytest.mark.parametrize("name", SETS)
def test_results_have_what_the_official_script_reads(name: str, tmp_path: Path) -> None:
    annotations, _ = write_set(tmp_path, name)
    metric, content = METRICS[name], read_content(annotations)
    every = annotations_of(annotations, content, metric.layout)
    answered = [Answered(one, next(iter(metric.given(one)), ""), 1.0) for one in every]
    text = metric.layout.write(metric.layout, answered)
    lines = text.splitlines()
    if ENTRIES[name] is None:
        wanted = [(f"{one.question.question_id},", one.answer) for one in answered]
        assert lines == [answer if name == "daquar" else key + answer for key, answer in wanted]
        return
    jsonl = metric.layout.results.endswith("jsonl")
    written = [json.loads(line) for line in lines] if jsonl else json.loads(text)
    if isinstance(written, dict):  # by the id of the question
        assert list(written) == [str(one.question.question_id) for one in answered]
        written = list(written.values())
    assert len(written) == len(answered)
    entry = written[0]
    assert type(entry) is type(ENTRIES[name])
    if isinstance(entry, dict):
        assert {key: type(value) for key, value in entry.items()} == {
            key: type(value) for key, value in ENTRIES[name].items()
        }


def test_a_sixth_choice_has_no_letter() -> None:
    layout = METRICS["scienceqa"].layout
    question = Annotation("1", (), choices=tuple("abcdef"), right=0)
    text = layout.write(layout, [Answered(question, answer, 0.0) for answer in "ef"])
    assert [json.loads(line)["text"] for line in text.splitlines()] == ["E", "f"]


def test_an_answer_without_candidates_is_none_of_the_first(tmp_path: Path) -> None:
    annotations, predictions = write_set(tmp_path, "visual7w")
    first, second = ({"answer": text} for text in ("A cup.", "There."))
    predictions.write_text(
        json.dumps([{"qa_id": 1, **first}, {"qa_id": 3, "candidates": [second] * 2}])
    )
    found, _ = score_files(predictions=predictions, annotations=annotations)
    assert (found.overall, found.figures["any of the first 2 candidates"].value) == (50.0, 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"qa_id": 1}\n{"qa_id": 3,}\n', r"line 2: column \d+.*; JSON lines are needed"),
        ('[{"candidates": []}]', "entry 0 is an object without 'qa_id'; an object with 'qa_id' is"),
        ("[7]", "entry 0 is 7 without 'qa_id'"),
    ],
)
def test_an_entry_that_cannot_be_told_is_refused(text: str, said: str, tmp_path: Path) -> None:
    annotations, predictions = write_set(tmp_path, "visual7w")
    predictions.write_text(text)
    with pytest.raises(SourceError, match=said):
        score_files(predictions=predictions, annotations=annotations)


@pytest.mark.parametrize("name", SETS)
def test_missing_unknown_and_repeated_predictions(name: str, tmp_path: Path) -> None:
    """They are refused by id, unless the official rule counts them; then a note says so."""
    annotations, predictions = write_set(tmp_path, name)
    layout = METRICS[name].layout
    content = read_content(annotations)
    ids = [one.question_id for one in annotations_of(annotations, content, layout)]
    id_key = layout.id_key or "question_id"
    good = [{id_key: one, layout.answer_key: "1"} for one in ids]

    def score(entries: list[dict[str, Any]]) -> str:
        predictions.write_text(json.dumps(entries))
        try:
            found, _ = score_files(predictions=predictions, annotations=annotations, metric=name)
        except PipelineError as error:
            return str(error)
        return "; ".join(found.notes)

    of_the_split = [one for one, i in zip(good, ids, strict=True) if split_of(name, i) != "train"]
    unknown = {**of_the_split[0], id_key: 999}
    cases = {
        "missing": (of_the_split[1:], layout.missing, repr(ids[0])),
        "unknown": ([*of_the_split, unknown], layout.unknown, "999"),
        "repeated": ([*of_the_split, of_the_split[0]], layout.repeated, repr(ids[0])),
    }
    assert score(of_the_split) == ""
    for kind, (entries, forgiven, shown) in cases.items():
        said = score(entries)
        assert ("Predict every" in said or "Remove the repeats" in said) != forgiven, (kind, said)
        assert shown in said or (kind == "repeated" and "of which the last counts: 1" in said)


def split_of(name: str, question_id: object) -> str:
    trained = {"vqa-rad": 2, "visual7w": 2, "scienceqa": "15"}
    return "train" if trained.get(name) == question_id else "test"


def test_any_metric_scores_any_layout(tmp_path: Path) -> None:
    for name in SETS:
        annotations, predictions = write_set(tmp_path, name)
        plain, _ = score_files(predictions=predictions, annotations=annotations, metric="plain")
        assert (plain.metric, plain.figures) == ("plain", {})


def test_choices_of_gqa(tmp_path: Path) -> None:
    annotations, predictions = write_set(tmp_path, "gqa")
    choices = tmp_path / "choices.json"
    lists = {"1": {"valid": ["red", "blue"], "plausible": ["blue"]}}
    lists |= {"2": {"valid": ["yes"], "plausible": ["Yes"]}, "3": {"valid": [], "plausible": []}}
    choices.write_text(json.dumps(lists))
    found, _ = score_files(predictions=predictions, annotations=annotations, questions=choices)
    assert found.figures["validity"].value == 50.0
    assert found.figures["plausibility"].value == 50.0
    for content, said in (
        ([], "found a list"),
        ({"1": {"valid": 3}}, "question '1' has an object"),
    ):
        choices.write_text(json.dumps(content))
        with pytest.raises(PipelineError, match=said):
            score_files(predictions=predictions, annotations=annotations, questions=choices)
    other, _ = write_set(tmp_path, "vizwiz")
    with pytest.raises(MetricError, match="holds its questions; leave out --questions"):
        score_files(predictions=predictions, annotations=other, questions=choices)


def test_a_file_without_the_answers_that_are_asked_for(tmp_path: Path) -> None:
    annotations, predictions = write_set(tmp_path, "aokvqa")
    predictions.write_text('{"p": {"multiple_choice": "tea"}, "q": {"multiple_choice": "tea"}}')
    with pytest.raises(MetricError, match="No prediction has an answer under 'direct_answer'"):
        score_files(predictions=predictions, annotations=annotations, metric="aokvqa-da")


def test_a_count_that_is_no_number(tmp_path: Path) -> None:
    annotations, predictions = write_set(tmp_path, "tallyqa")
    said = [{"question_id": i, "answer": answer} for i, answer in enumerate(["2", "many", "1"])]
    predictions.write_text(json.dumps(said))
    with pytest.raises(MetricError, match="question 1: the answer 'many' is no whole number"):
        score_files(predictions=predictions, annotations=annotations)


def test_one_line_of_json_lines_is_a_list_of_one(tmp_path: Path) -> None:
    for name, expected in (("a.jsonl", [{"id": 1}]), ("a.json", {"id": 1})):
        (tmp_path / name).write_text('{"id": 1}\n')
        assert read_content(tmp_path / name) == expected
