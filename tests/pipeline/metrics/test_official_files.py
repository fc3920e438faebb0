"""Official files: read strictly, scored as the official tool scores them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import MetricError, SourceError
from frozen_vqa.pipeline.metrics.metric import Annotation
from frozen_vqa.pipeline.metrics.official_files import read_annotations, read_predictions
from frozen_vqa.pipeline.metrics.score import score_files
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules
from frozen_vqa.pipeline.sources.strict_json import read_json
from tests.support.repository import DATA

OFFICIAL = DATA / "vqav2-text"
PREFIX: dict[Rules, str] = {"2021": "acc", "2017": "acc2017"}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def annotation(question_id: int | str, *answers: str, **types: str) -> dict[str, Any]:
    given = [{"answer_id": i, "answer": answer} for i, answer in enumerate(answers, 1)]
    return {"question_id": question_id, "answers": given, **types}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    entries = [
        annotation(3, *["cat"] * 9, "dog", question_type="what is", answer_type="other"),
        annotation(1, *["yes"] * 10, question_type="is the", answer_type="yes/no"),
        annotation(2, *["2"] * 2, *["3"] * 8, question_type="how many", answer_type="number"),
    ]
    return write(tmp_path / "annotations.json", {"annotations": entries})


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    answers = {1: "yes", 2: "two", 3: "A dog."}
    entries = [{"question_id": i, "answer": answer} for i, answer in answers.items()]
    return write(tmp_path / "results.json", entries)


def test_read_predictions_keeps_the_order(tmp_path: Path) -> None:
    content = [{"question_id": 2, "answer": ""}, {"question_id": "x", "answer": "b", "more": 1}]
    assert list(read_predictions(write(tmp_path / "r.json", content)).items()) == [
        (2, ""),
        ("x", "b"),
    ]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"1": "yes"}, "found an object; a list of objects with"),
        ("yes", "found 'yes'; a list"),
        ([3], "1 of 1 entries cannot be used: entry 0 is 3; an object with"),
        ([{"answer": "a"}], "entry 0 has no question_id"),
        ([{"question_id": True, "answer": "a"}], "entry 0 has true as question_id"),
        ([{"question_id": 1.0, "answer": "a"}], "entry 0 has 1.0 as question_id"),
        ([{"question_id": 7}], r"entry 0 \(question 7\) has no answer"),
        ([{"question_id": "q", "answer": 3}], r"\(question 'q'\) has 3 as answer"),
        ([{"question_id": 7, "answer": None}], "has null as answer"),
        ([{"question_id": i, "answer": "a"} for i in (4, 5, 4, 6, 6)], "2 question ids .*: 4, 6;"),
    ],
)
def test_read_predictions_refuses(tmp_path: Path, content: object, match: str) -> None:
    with pytest.raises(SourceError, match=match):
        read_predictions(write(tmp_path / "results.json", content))


def test_at_most_five_faults_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", [{"question_id": i} for i in range(70, 79)])
    with pytest.raises(SourceError, match="9 of 9 entries") as caught:
        read_predictions(path)
    assert str(caught.value).count("(question 7") == 5
    path = write(path, [{"question_id": i % 8, "answer": ""} for i in range(20)])
    with pytest.raises(SourceError, match="8 question ids occur more than once: 0, 1, 2, 3, 4, …;"):
        read_predictions(path)


def test_read_annotations(annotations: Path, tmp_path: Path) -> None:
    found = read_annotations(annotations)
    assert [record.question_id for record in found] == [3, 1, 2]
    assert found[0] == Annotation(3, ("cat",) * 9 + ("dog",), "what is", "other")
    bare = write(tmp_path / "bare.json", {"annotations": [annotation("q", "cat")]})
    assert read_annotations(bare) == [Annotation("q", ("cat",), "", "")]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([annotation(1, "a")], "found list; an object with a list under 'annotations' is needed"),
        ({"questions": [], "info": 1}, "found keys 'questions', 'info'; an object"),
        ({}, "found keys none; an object"),
        ({"annotations": {}}, "found keys 'annotations'; an object with a list"),
        ({"annotations": []}, "the list of annotations is empty; at least one is needed"),
        ({"annotations": [1]}, "entry 0 is 1"),
        ({"annotations": [{"answers": []}]}, "entry 0 has no question_id"),
        ({"annotations": [annotation(4)]}, r"entry 0 \(question 4\) has no list of answers"),
        ({"annotations": [{"question_id": 4}]}, "has no list of answers"),
        ({"annotations": [{"question_id": 4, "answers": ["a"]}]}, "has an answer without text"),
        (
            {"annotations": [{"question_id": 4, "answers": [{"answer": 1}]}]},
            "has an answer without text",
        ),
        (
            {"annotations": [annotation(4, "a", answer_type=None)]},  # type: ignore[arg-type]
            "has a type that is not text",
        ),
        (
            {"annotations": [annotation(4, "a"), annotation(4, "b")]},
            "1 question ids occur more than once: 4; each id once is needed",
        ),
    ],
)
def test_read_annotations_refuses(tmp_path: Path, content: object, match: str) -> None:
    with pytest.raises(SourceError, match=match):
        read_annotations(write(tmp_path / "annotations.json", content))


def test_annotations_must_belong_to_the_questions(annotations: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    write(path, {"questions": [{"question_id": i, "question": "?"} for i in (1, 2, 3)]})
    assert len(read_annotations(annotations, path)) == 3
    write(path, {"questions": [{"question_id": i} for i in (1, 2, 4)]})
    with pytest.raises(
        MetricError, match=r"of 3 questions 1 are missing \(4\) and 1 are unknown \(3\); exactly"
    ):
        read_annotations(annotations, path)
    write(path, {"questions": [{"id": 1}]})
    with pytest.raises(SourceError, match=r"questions\.json: .* entry 0 has no question_id"):
        read_annotations(annotations, path)
    write(path, {"annotations": []})
    with pytest.raises(SourceError, match="a list under 'questions' is needed"):
        read_annotations(annotations, path)


def test_score_files(annotations: Path, predictions: Path, tmp_path: Path) -> None:
    found, each = score_files(predictions=predictions, annotations=annotations)
    assert list(each.items()) == [(3, 30.0), (1, 100.0), (2, 60.0)]
    assert found.metric == "2021"
    assert found.overall == 63.33
    assert found.by_answer_type == {"other": 30.0, "yes/no": 100.0, "number": 60.0}
    assert found.by_question_type == {"what is": 30.0, "is the": 100.0, "how many": 60.0}
    plain, each = score_files(predictions=predictions, annotations=annotations, metric="plain")
    assert (plain.overall, plain.metric) == (100.0, "plain")
    old, each = score_files(predictions=predictions, annotations=annotations, metric="2017")
    assert each == {3: 30.0, 1: 100.0, 2: 60.0}
    assert old.metric == "2017"
    few = write(tmp_path / "few.json", {"annotations": [annotation(i, "yes") for i in (1, 2, 3)]})
    found, _ = score_files(predictions=predictions, annotations=few)
    assert (found.overall, found.metric, found.by_answer_type) == (33.33, "plain", {})


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ([1, 2], r"of 3 questions 1 are missing \(3\); exactly the same ids are needed"),
        ([1, 2, 3, 4], r"of 3 questions 1 are unknown \(4\); exactly"),
        (["1", "2", "3.0"], r"1 are missing \(3\) and 1 are unknown \('3\.0'\)"),
        (list(range(1, 20)), r"16 are unknown \(4, 5, 6, 7, 8, …\)"),
        ([], r"3 are missing \(3, 1, 2\); .* Predict every question of this split, and no other"),
    ],
)
def test_predictions_must_cover_the_annotations(
    annotations: Path, tmp_path: Path, ids: list[int | str], match: str
) -> None:
    path = write(tmp_path / "r.json", [{"question_id": i, "answer": "yes"} for i in ids])
    with pytest.raises(MetricError, match=match):
        score_files(predictions=path, annotations=annotations)


@pytest.mark.data
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no golden files at {OFFICIAL}")
@pytest.mark.parametrize("name", ["globalmajority", "mc", "noisyhuman", "qtypeprior"])
@pytest.mark.parametrize("rules", ["2021", "2017"])
def test_golden_files(name: str, rules: Rules) -> None:
    golden = OFFICIAL / "golden"
    start = time.process_time()
    found, each = score_files(
        predictions=golden / f"res_valid_{name}.json",
        annotations=OFFICIAL / "annotations_valid.json",
        questions=OFFICIAL / "questions_valid.json",
        metric=rules,
    )
    assert time.process_time() - start < 10
    expected = read_json(golden / f"{PREFIX[rules]}_valid_{name}.json")
    assert found.overall == expected["overall"]
    assert found.by_answer_type == expected["perAnswerType"]
    assert found.by_question_type == expected["perQuestionType"]
    assert len(each) == found.questions == 8977
    if rules == "2021":  # the files of the 2017 rules have no scores of single questions
        per_question = read_json(golden / f"evalQA_valid_{name}.json")
        assert {str(question_id): score for question_id, score in each.items()} == per_question


@pytest.mark.data
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no training annotations at {OFFICIAL}")
def test_real_training_annotations() -> None:
    """48,061 real records, gzipped, without a question file."""
    records = read_annotations(OFFICIAL / "annotations_train.json.gz")
    assert len(records) == 48061
    assert {len(record.answers) for record in records} == {10}
