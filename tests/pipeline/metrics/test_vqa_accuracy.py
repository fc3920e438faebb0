"""The metric against the vectors and golden files of the official tool."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.accuracy import Accuracy, Figure
from frozen_vqa.pipeline.metrics.vqa_accuracy import (
    _CONTRACTIONS,
    Rules,
    accuracy,
    normalise,
    percent,
    question_score,
)
from tests.support.repository import DATA

OFFICIAL = DATA / "vqav2-text"
PREFIX: dict[Rules, str] = {"2021": "acc", "2017": "acc2017"}

ANSWERS = ["2", "two", "Two", "a dog", "dog", "t-shirt", "t shirt", " yes", "yes", "dont", "."]
some_answers = st.lists(st.sampled_from(ANSWERS) | st.text(max_size=6), min_size=1, max_size=12)
any_rules = st.sampled_from(["2021", "2017", "plain"])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1,000 people", "1000 people"),
        ("1,2", "12"),
        ("1,000-2,000", "10002000"),
        ("1,5 a-b", "15 ab"),
        ("yes,sir", "yes sir"),
        ("t-shirt", "t shirt"),
        ("a- b-c", "bc"),
        ("x -y z-w", "x y zw"),
        ("x/-y-z", "x y z"),  # tested before "/" became a space
        ("-5", "5"),
        ("3.", "3"),
        ("p.5", "p.5"),
        ("..5", ".5"),
        ("u.s.a.", "usa"),
        ("$5", "$5"),
        ("50%", "50%"),
        ("10:30", "10:30"),
        ("none", "0"),
        ("no one", "no 1"),
        ("twenty one", "twenty 1"),
        ("dont", "don't"),
        ("Im", "im"),
        ("the the", ""),
        ("a/an", ""),
        ("it's a-ok", "it's ok"),
        ("." * 40, "." * 8),
        ("", ""),
        ("Zero one TWO three four five", "0 1 2 3 4 5"),
        ("six seven eight nine ten eleven", "6 7 8 9 10 eleven"),
        ("couldnt've couldn'tve couldntve", "couldn't've couldn't've couldntve"),
        ("ow's'at 'ows'at 'ow'sat", "'ow's'at 'ow's'at 'ow's'at"),
        ("somebody'd let's she's wed", "somebodyd let's she's wed"),
        ("Ive I'dve", "ive i'dve"),
        ("\ta\n-b-c ", "bc"),  # the line end counts as a space beside the dash
        ("٣,٣ a-b ٣.٣", "٣ ٣ b ٣٣"),  # only 0-9 are digits, as in Python 2
        (""";/["x"]{y}(z)=+\\_-><@`,?!w""", "x y z w"),
        ("a:b.c&d'e*f|g~h^i#j", "a:bc&d'e*f|g~h^i#j"),
    ],
)
def test_normalise(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


def test_every_contraction_leaves_out_one_apostrophe() -> None:
    """The official table has 120 entries: 4 have a capital, 2 map to themselves, 1 is reversed."""
    assert len(_CONTRACTIONS) == 120 - 4 - 2
    for key, word in _CONTRACTIONS.items():
        assert normalise(key) == word
        assert key.replace("'", "") == word.replace("'", "")


@pytest.mark.parametrize(
    ("answers", "prediction", "score_2021", "score_2017"),
    [
        (["two"] * 10, "2", 0.0, 0.0),
        (["two"] * 10, "two", 1.0, 0.0),
        (["two"] * 9 + ["three"], "2", 1.0, 0.0),
        (["Yes"] * 10, "yes", 0.0, 0.0),
        (["t-shirt"] * 10, "t-shirt", 1.0, 0.0),
        (["a dog"] * 9 + ["cat"], "dog", 1.0, 0.0),
        (["t-shirt"] * 9 + ["cat"], "t-shirt", 1.0, 1.0),
        ([" yes"] * 10, "yes\n", 1.0, 0.0),  # only the 2021 rules strip the given answers
        (["yes", "yes "] * 5, "Yes", 0.0, 1.0),
        (["a", "an", "the", "."] + ["b"] * 6, "", 1.0, 0.3),
    ],
)
def test_both_official_rules(
    answers: list[str], prediction: str, score_2021: float, score_2017: float
) -> None:
    assert question_score(prediction, answers, rules="2021") == score_2021
    assert question_score(prediction, answers, rules="2017") == pytest.approx(score_2017)


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
@pytest.mark.parametrize("rules", ["2021", "2017"])
def test_matches_among_ten_answers(matches: int, score: float, rules: Rules) -> None:
    answers = ["cat"] * matches + [f"dog {i}" for i in range(2, 12 - matches)]
    assert question_score("cat", answers, rules=rules) == pytest.approx(score)


@pytest.mark.parametrize(("count", "shown"), [(1, 0.0), (2, 33.33), (3, 66.67), (4, 100.0)])
def test_few_unanimous_answers_score_low(count: int, shown: float) -> None:
    """The official rules do not suit data sets with one answer; hence the plain ones."""
    answers = ["cat"] * count
    assert percent(question_score("cat", answers, rules="2021"), "2021") == shown
    assert question_score("Cat.", answers, rules="plain") == 1.0
    assert question_score("dog", answers, rules="plain") == 0.0


def test_errors() -> None:
    with pytest.raises(MetricError, match="no given answers, and a score needs at least one"):
        question_score("cat", [], rules="2021")
    with pytest.raises(MetricError, match="no given answers"):
        question_score("cat", [], rules="plain")
    with pytest.raises(ValueError, match="unknown rules '2020'"):
        question_score("cat", ["cat"], rules="2020")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="no questions to score"):
        accuracy([], [], [], "2021")
    with pytest.raises(ValueError, match="shorter"):
        accuracy([1.0, 0.0], ["other"], ["", ""], "2021")


def test_accuracy_by_type() -> None:
    found = accuracy(
        [1.0, 0.3, 0.0], ["yes/no", "other", "other"], ["is", "", "what color"], "2021"
    )
    assert found == Accuracy(
        overall=43.33,
        groups={
            "answer_type": {"yes/no": Figure(100.0, 1), "other": Figure(15.0, 2)},
            "question_type": {"is": Figure(100.0, 1), "what color": Figure(0.0, 1)},
        },
        questions=3,
        metric="2021",
    )
    as_json = found.to_json()
    assert json.loads(json.dumps(as_json)) == {
        "accuracy": {"overall": 43.33, "yes/no": 100.0, "other": 15.0},
        "by_question_type": {"is": 100.0, "what color": 0.0},
        "groups": {
            "answer_type": {
                "yes/no": {"accuracy": 100.0, "questions": 1},
                "other": {"accuracy": 15.0, "questions": 2},
            },
            "question_type": {
                "is": {"accuracy": 100.0, "questions": 1},
                "what color": {"accuracy": 0.0, "questions": 1},
            },
        },
        "questions": 3,
        "metric": "2021",
    }
    assert list(as_json) == ["accuracy", "by_question_type", "groups", "questions", "metric"]
    assert next(iter(as_json["accuracy"])) == "overall"  # type: ignore[call-overload]


def test_a_type_named_overall_does_not_hide_the_total() -> None:
    found = accuracy([1.0, 0.0], ["overall", ""], ["", ""], "plain").to_json()
    assert found["accuracy"] == {"overall": 50.0}


def test_exact_halves_round_as_in_each_golden_file() -> None:
    """One right answer in 32 is 3.125 %: 3.13 in Python 2, 3.12 in the Python 3 copies."""
    scores, none = [1.0] + [0.0] * 31, [""] * 32
    assert accuracy(scores, none, none, "2021").overall == percent(1 / 32, "2021") == 3.13
    assert accuracy(scores, none, none, "2017").overall == percent(1 / 32, "2017") == 3.12


def test_sums_run_from_left_to_right() -> None:
    """`sum` of Python 3.12 makes ten times 0.1 equal 1, and the last digit another."""
    scores, none = [0.1] * 10 + [0.0] * 790, [""] * 800
    assert accuracy(scores, none, none, "2021").overall == 0.12  # exact sums: 0.125, so 0.13


@given(st.text())
def test_normalise_is_total(answer: str) -> None:
    found = normalise(answer)
    assert found == " ".join(found.split())
    assert not set(found.split()) & {"a", "an", "the", "none", "two"}
    assert not set(found) & set(';/[]"{}()=+\\_-><@`,?!')


@given(st.text(), some_answers, any_rules)
def test_score_is_a_share_and_ignores_order(
    prediction: str, answers: list[str], rules: Rules
) -> None:
    for guess in (prediction, answers[0]):
        score = question_score(guess, answers, rules=rules)
        assert 0.0 <= score <= 1.0
        again = question_score(guess, sorted(answers), rules=rules)
        assert again == pytest.approx(score, abs=1e-12)


@given(st.sampled_from(["cat", "red", "7"]), st.integers(0, 10))
def test_more_agreement_never_scores_less(prediction: str, matches: int) -> None:
    answers = [prediction] * matches + ["other"] * (10 - matches)
    assert question_score(prediction, answers, rules="2021") == pytest.approx(min(1, 0.3 * matches))


@pytest.mark.data
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no golden files at {OFFICIAL}")
@pytest.mark.parametrize("name", ["globalmajority", "mc", "noisyhuman", "qtypeprior"])
@pytest.mark.parametrize("rules", ["2021", "2017"])
def test_golden_accuracies(name: str, rules: Rules) -> None:
    """Every accuracy of the official tool on 8,977 real questions, to the last digit."""
    annotations = json.loads((OFFICIAL / "annotations_valid.json").read_bytes())["annotations"]
    golden = OFFICIAL / "golden"
    results = json.loads((golden / f"res_valid_{name}.json").read_bytes())
    expected = json.loads((golden / f"{PREFIX[rules]}_valid_{name}.json").read_bytes())
    predicted = {entry["question_id"]: entry["answer"] for entry in results}
    found = accuracy(
        [
            question_score(
                predicted[a["question_id"]], [g["answer"] for g in a["answers"]], rules=rules
            )
            for a in annotations
        ],
        [a["answer_type"] for a in annotations],
        [a["question_type"] for a in annotations],
        rules,
    )
    assert found.overall == expected["overall"]
    assert found.by_answer_type == expected["perAnswerType"]
    assert found.by_question_type == expected["perQuestionType"]
    assert found.questions == len(annotations) == 8977


@pytest.mark.data
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no golden files at {OFFICIAL}")
def test_what_people_score() -> None:
    """The first annotators themselves; "noisyhuman" is an annotator's answer in other writing."""
    annotations = json.loads((OFFICIAL / "annotations_valid.json").read_bytes())["annotations"]
    given = [[answer["answer"] for answer in a["answers"]] for a in annotations]
    for rules, expected in (("2021", 87.22), ("2017", 87.06)):
        scores = [question_score(answers[0], answers, rules=rules) for answers in given]
        assert round(100 * sum(scores) / len(scores), 2) == expected

    results = json.loads((OFFICIAL / "golden" / "res_valid_noisyhuman.json").read_bytes())
    noisy = {entry["question_id"]: entry["answer"] for entry in results}
    written = [noisy[a["question_id"]] for a in annotations]
    as_given = sum(one in answers for one, answers in zip(written, given, strict=True))
    folded = sum(
        normalise(one) in map(normalise, answers)
        for one, answers in zip(written, given, strict=True)
    )
    assert (as_given, folded) == (2475, 7915)
    assert all(
        re.fullmatch(r"a .*, ok", one)
        for one, answers in zip(written, given, strict=True)
        if normalise(one) not in map(normalise, answers)
    )
