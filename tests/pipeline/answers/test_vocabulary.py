"""The vocabulary's rules, soft targets, and class scores against the metric itself."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.answers.vocabulary import (
    ClassScores,
    Vocabulary,
    build_vocabulary,
    class_scores,
    leave_one_out,
    load_vocabulary,
)
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules, normalise, question_score

# Forms that the metric makes equal, and forms that only look alike.
FORMS = ["2", "two", "Two", " two", "yes", "Yes", "YES ", "t-shirt", "t\tshirt", "t shirt", "a dog"]
FORMS += ["dog", "the", "", "1,000", "1000"]
ten_answers = st.lists(st.sampled_from(FORMS), min_size=10, max_size=10)
agreeing = st.builds(lambda form: [form] * 10, st.sampled_from(FORMS))
nearly_agreeing = st.lists(
    st.sampled_from(["yes", "Yes", "YES ", "yes\n"]), min_size=10, max_size=10
)
any_number = st.lists(st.sampled_from(FORMS), min_size=1, max_size=12)
questions = st.lists(ten_answers | agreeing | nearly_agreeing | any_number, max_size=6)
vocabularies = st.lists(st.sampled_from(FORMS), min_size=1, unique_by=normalise).map(
    lambda answers: Vocabulary(tuple(answers))
)


def question(answer: str, count: int = 10, other: str = "something else") -> tuple[str, ...]:
    return (answer,) * count + (other,) * (10 - count)


def test_answers_are_ranked_by_how_often_they_are_the_majority() -> None:
    asked = [question("red")] * 3 + [question("blue", 6)] * 4 + [question("rare")] * 2

    assert build_vocabulary(asked, min_count=3).answers == ("blue", "red")
    assert build_vocabulary(asked, min_count=2).answers == ("blue", "red", "rare")
    assert build_vocabulary(asked, min_count=2, top=1).answers == ("blue",)
    assert build_vocabulary(asked, min_count=2, top=7).answers == ("blue", "red", "rare")


def test_an_answer_counts_once_per_question_and_only_as_majority() -> None:
    asked = [question("red", 6, "blue")] * 2 + [question("blue", 10)]
    # "blue" was given 18 times, "red" 12 times; but "red" is the majority of two questions.
    assert build_vocabulary(asked, min_count=1).answers == ("red", "blue")
    assert build_vocabulary(asked, min_count=2).answers == ("red",)


def test_majority_is_found_among_normalised_answers() -> None:
    """Three ways to write two outnumber any one way to write three."""
    asked = [("2", "Two", "two", "three", "three")]
    (answer,) = build_vocabulary(asked, min_count=1).answers
    assert normalise(answer) == "2"


def test_a_class_is_written_as_most_people_wrote_it() -> None:
    asked = [question("t shirt")] * 2 + [question("t-shirt")] * 3 + [question("T-Shirt")]
    assert build_vocabulary(asked, min_count=6).answers == ("t-shirt",)


def test_ties_do_not_depend_on_the_order_of_the_questions() -> None:
    asked = [question(answer) for answer in ("pear", "Apple", "apple", "fig", "fig", "pear")]
    answers = build_vocabulary(asked, min_count=1).answers
    assert answers == ("Apple", "fig", "pear")
    assert build_vocabulary(asked[::-1], min_count=1).answers == answers


def test_of_equally_frequent_answers_the_first_is_the_majority() -> None:
    assert build_vocabulary([("b", "a", "a", "b")], min_count=1).answers == ("b",)


def test_questions_without_answers_are_passed_over() -> None:
    assert build_vocabulary([(), question("red"), ()], min_count=1).answers == ("red",)


def test_a_vocabulary_without_answers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 9 .*'red', 3 times.*--min-answer-count 1"):
        build_vocabulary([question("Red")] * 3)
    with pytest.raises(ConfigError, match=r"at least 9 training questions \(none\)"):
        build_vocabulary([(), ()])


def test_classes_are_found_by_normalised_answer() -> None:
    assert Vocabulary(("t-shirt", "Two")).classes == {"t shirt": 0, "2": 1}
    assert len(Vocabulary(("t-shirt", "Two"))) == 2


@pytest.mark.parametrize("answers", [("red", "blue"), ("größe", '"', "日本", "a\nb", "")], ids=repr)
def test_a_vocabulary_survives_its_file(answers: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    Vocabulary(answers).save(path)
    assert load_vocabulary(path) == Vocabulary(answers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a readable answer vocabulary"),
        (b"[", "not a readable answer vocabulary"),
        (b"\xff", "not a readable answer vocabulary"),
        (b'{"red": 0}', "a JSON list of texts is needed"),
        (b'["red", 7]', "a JSON list of texts is needed"),
    ],
    ids=repr,
)
def test_a_damaged_vocabulary_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "answers.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=f"{os.sep}answers.json: {message}"):
        load_vocabulary(path)


def test_leave_one_out_of_ten() -> None:
    scores = [leave_one_out(n, 10) for n in range(11)]
    assert scores == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1], abs=1e-12)


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_leave_one_out_is_a_mean_over_subsets(counts: tuple[int, int]) -> None:
    matches, given_answers = counts
    right = [i < matches for i in range(given_answers)]
    subsets = [right[:i] + right[i + 1 :] for i in range(given_answers)]
    mean = sum(min(1, sum(subset) / 3) for subset in subsets) / given_answers
    assert leave_one_out(matches, given_answers) == pytest.approx(mean, abs=1e-12)


def naive_targets(given_answers: list[str], vocabulary: Vocabulary, rules: Rules) -> list[float]:
    counts = [[normalise(a) for a in given_answers].count(normalise(c)) for c in vocabulary.answers]
    if rules == "plain":
        return [float(count > 0) for count in counts]
    return [leave_one_out(count, len(given_answers)) for count in counts]


@given(questions, vocabularies, st.sampled_from(["2021", "plain"]))
def test_scores_are_those_of_the_metric(
    asked: list[list[str]], vocabulary: Vocabulary, rules: Rules
) -> None:
    """For every question and every class, whether or not an annotator named it."""
    scores = class_scores(asked, vocabulary, rules=rules)
    expected = np.array(
        [[question_score(c, a, rules=rules) for c in vocabulary.answers] for a in asked]
    ).reshape(len(asked), len(vocabulary))

    for i in range(len(vocabulary)):
        got = scores.score(np.full(len(asked), i))
        assert got == pytest.approx(expected[:, i], abs=1e-12)
    assert scores.best() == pytest.approx(expected.max(1, initial=0), abs=1e-12)


def dense_targets(scores: ClassScores, rows: np.ndarray, classes: int) -> np.ndarray:
    out = np.zeros((len(rows), classes))
    places, found, values = scores.sparse(rows)
    assert values.dtype == np.float32
    assert len(set(zip(places.tolist(), found.tolist(), strict=True))) == len(values)
    out[places, found] = values
    return out


@given(questions, vocabularies, st.sampled_from(["2021", "plain"]), st.randoms())
def test_targets_equal_a_dense_matrix(
    asked: list[list[str]], vocabulary: Vocabulary, rules: Rules, random: object
) -> None:
    scores = class_scores(asked, vocabulary, rules=rules)
    rows = list(range(len(asked))) * 2  # any order, repeats too
    random.shuffle(rows)  # type: ignore[attr-defined]

    dense = dense_targets(scores, np.array(rows, dtype=np.int64), len(vocabulary))

    for row, got in zip(rows, dense, strict=True):
        assert got == pytest.approx(naive_targets(asked[row], vocabulary, rules), abs=1e-6)


def test_where_all_agree_the_raw_text_has_to_match() -> None:
    """The target is 1 all the same: the class means that answer."""
    vocabulary = Vocabulary(("yes", "no"))
    scores = class_scores(
        [("Yes",) * 10, ("yes",) * 10, ("Yes", "Yes ") * 5], vocabulary, rules="2021"
    )
    assert scores.score(np.array([0, 0, 0])).tolist() == [0, 1, 0]
    assert dense_targets(scores, np.arange(3), 2).tolist() == [[1, 0], [1, 0], [1, 0]]
    assert scores.best().tolist() == [0, 1, 0]


def test_each_question_is_scored_by_its_own_prediction() -> None:
    vocabulary = Vocabulary(("red", "blue", "green"))
    asked = [question("red", 8, "blue"), question("no class"), question("green", 7, "blue")]
    scores = class_scores(asked, vocabulary, rules="2021")
    assert scores.score(np.array([1, 2, 2])) == pytest.approx([0.6, 0, 1])
    assert scores.score(np.array([0, 0, 1])) == pytest.approx([1, 0, 0.9])


def test_scores_of_no_questions() -> None:
    scores: ClassScores = class_scores([], Vocabulary(("red",)), rules="2021")
    assert scores.best().tolist() == []
    assert [len(part) for part in scores.sparse(np.array([], dtype=np.int64))] == [0, 0, 0]
