"""Soft targets, and the score of every class against the metric itself."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frozen_vqa.pipeline.answers.targets import ClassScores, class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules, leave_one_out, normalise, question_score

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


@given(questions, vocabularies, st.sampled_from(["2021", "2017", "plain"]))
@example([["a dog"] * 9 + ["yes"]], Vocabulary(("dog",)), "2017")  # right, and scores nothing
def test_scores_are_those_of_the_metric(
    asked: list[list[str]], vocabulary: Vocabulary, rules: Rules
) -> None:
    """For every question and every class, whether or not an annotator named it."""
    scores = class_scores(asked, vocabulary, metric=METRICS[rules])
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


@given(questions, vocabularies, st.sampled_from(["2021", "2017", "plain"]), st.randoms())
def test_targets_equal_a_dense_matrix(
    asked: list[list[str]], vocabulary: Vocabulary, rules: Rules, random: object
) -> None:
    scores = class_scores(asked, vocabulary, metric=METRICS[rules])
    rows = list(range(len(asked))) * 2  # any order, repeats too
    random.shuffle(rows)  # type: ignore[attr-defined]

    dense = dense_targets(scores, np.array(rows, dtype=np.int64), len(vocabulary))

    for row, got in zip(rows, dense, strict=True):
        assert got == pytest.approx(naive_targets(asked[row], vocabulary, rules), abs=1e-6)


def test_where_all_agree_the_raw_text_has_to_match() -> None:
    """The target is 1 all the same: the class means that answer."""
    vocabulary = Vocabulary(("yes", "no"))
    scores = class_scores(
        [("Yes",) * 10, ("yes",) * 10, ("Yes", "Yes ") * 5], vocabulary, metric=METRICS["2021"]
    )
    assert scores.score(np.array([0, 0, 0])).tolist() == [0, 1, 0]
    assert dense_targets(scores, np.arange(3), 2).tolist() == [[1, 0], [1, 0], [1, 0]]
    assert scores.best().tolist() == [0, 1, 0]


def test_each_question_is_scored_by_its_own_prediction() -> None:
    vocabulary = Vocabulary(("red", "blue", "green"))
    asked = [question("red", 8, "blue"), question("no class"), question("green", 7, "blue")]
    scores = class_scores(asked, vocabulary, metric=METRICS["2021"])
    assert scores.score(np.array([1, 2, 2])) == pytest.approx([0.6, 0, 1])
    assert scores.score(np.array([0, 0, 1])) == pytest.approx([1, 0, 0.9])


def test_scores_of_no_questions() -> None:
    scores: ClassScores = class_scores([], Vocabulary(("red",)), metric=METRICS["2021"])
    assert scores.best().tolist() == []
    assert [len(part) for part in scores.sparse(np.array([], dtype=np.int64))] == [0, 0, 0]
