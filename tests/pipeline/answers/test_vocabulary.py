"""Which answers are classes, how each is written, and the file that keeps them."""

import os
from pathlib import Path

import pytest

from frozen_vqa.pipeline.answers.vocabulary import Vocabulary, build_vocabulary, load_vocabulary
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.metrics.vqa_accuracy import normalise


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
        (b'["red", 7]', r"a JSON list of texts is needed \(\[1\] is 7"),
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


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (["a" * 200_000], "an answer has 200,000 characters; the limit is 100,000"),
        (["a\0b"], "holds a NUL"),
        ([f"{i} " + "é" * 90_000 for i in range(120)], "bytes of text as classes"),
        ([str(i) for i in range(5_000)], ""),
        (["", " ", "\x1b[31m"], ""),
    ],
)
def test_what_is_built_is_read_again_or_refused_at_once(
    answers: list[str], why: str, tmp_path: Path
) -> None:
    given = [(answer,) for answer in answers]
    if why:
        with pytest.raises(ConfigError, match=why):
            build_vocabulary(given, min_count=1, normalise=str)
        return
    found = build_vocabulary(given, min_count=1, normalise=str)
    found.save(tmp_path / "answers.json")
    assert load_vocabulary(tmp_path / "answers.json") == found
