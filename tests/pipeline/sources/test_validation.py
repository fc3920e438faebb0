"""What a question must be: values that are kept, and the reasons of those that are not."""

import pytest

from frozen_vqa.pipeline.sources.validation import (
    UnknownFormError,
    UnusableError,
    answers_of,
    id_of,
    id_or_none,
    question_of,
    require_fields,
    shown,
    text_of,
    type_of,
)


@pytest.mark.parametrize("value", [0, -(2**63), 2**63 - 1, "a", "7", "é"])
def test_an_id_is_text_or_a_whole_number_of_64_bits(value: int | str) -> None:
    assert id_of(value, "id") == value
    assert id_or_none(value) == value


@pytest.mark.parametrize("value", [True, 1.0, None, "", [], {}, 2**63, -(2**63) - 1, b"a"])
def test_nothing_else_is_an_id(value: object) -> None:
    with pytest.raises(UnusableError, match=r"^id is .*; text or a whole number of 64 bits"):
        id_of(value, "id")
    assert id_or_none(value) is None


@pytest.mark.parametrize("value", ["", "a", "smile 😀", "\x01", "\ue000", "\ud7ff"])
def test_text_is_kept_as_it_is(value: str) -> None:
    assert text_of(value, "field") == value


@pytest.mark.parametrize("value", ["a\ud83d", "\udc00", "\0", "a\0b", chr(0xDFFF), chr(0xD800)])
def test_text_that_cannot_be_stored_is_refused(value: str) -> None:
    match = "^field '.*' holds a NUL or half of a surrogate pair; remove that character$"
    with pytest.raises(UnusableError, match=match):
        text_of(value, "field")


@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u00a0", "\u3000"])
def test_a_blank_question_is_refused(value: str) -> None:
    with pytest.raises(UnusableError, match=r"^question is blank; text is needed$"):
        question_of(value)


def test_a_question_keeps_its_spaces_and_its_length() -> None:
    long = " ".join(["why"] * 5000)
    assert question_of(" a? ") == " a? "
    assert question_of(long) == long


def test_a_type_may_be_null() -> None:
    assert type_of(None, "answer_type") == ""
    assert type_of("other", "answer_type") == "other"
    with pytest.raises(UnusableError, match="answer_type is 1; text is needed"):
        type_of(1, "answer_type")


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        (None, ()),
        ([], ()),
        ("dog", ("dog",)),
        (["a"] * 11, ("a",) * 11),
        (("a", "2"), ("a", "2")),
        (["é", "\U0001f600", " a "], ("é", "\U0001f600", " a ")),
        ({"answer": ["a", "b"], "answer_id": [1, 2]}, ("a", "b")),
        ({"answer": []}, ()),
        ([{"answer": "a", "answer_id": 1}], ("a",)),
    ],
)
def test_answers_are_texts_as_they_are_written(value: object, answers: tuple[str, ...]) -> None:
    assert answers_of(value) == answers


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (True, "true"),
        ([False], "false"),
        (7, "7"),
        ([float("nan")], "nan"),
        ([None], "null"),
        ("", "an empty text"),
        (["\t"], "an empty text"),
        ([["a"]], "a list"),
        ([b"a"], "bytes"),
        ({}, "an empty object"),
        ([{"text": "a", "id": 1}], "an object with 'text', 'id'"),
        ({"answers": ["a"]}, "an object with 'answers'"),
    ],
)
def test_answers_of_an_unknown_form_are_refused_with_their_form(value: object, form: str) -> None:
    with pytest.raises(UnknownFormError, match=rf"^an answer is {form}; answers are a text, a "):
        answers_of(value)


@pytest.mark.parametrize("value", [["a", "\0"], ["\ud83d", "\ude00"], "\0"])
def test_answers_that_cannot_be_stored_are_refused(value: object) -> None:
    """Halves of a pair in two answers are not a pair."""
    with pytest.raises(UnusableError, match=r"^an answer '.*' holds a NUL or half") as caught:
        answers_of(value)
    assert not isinstance(caught.value, UnknownFormError)  # so it costs one question


def test_what_is_missing_is_named_beside_what_is_there() -> None:
    require_fields({"a": None, "b": 1}, ("a", "b"))
    with pytest.raises(UnusableError, match=r"^b is missing; the fields are 'a', 'x'$"):
        require_fields({"a": 1, "x": 2}, ("a", "b"))
    with pytest.raises(UnusableError, match=r"^a and b are missing; the fields are nothing$"):
        require_fields({}, ("a", "b"))


def test_values_are_shown_short_and_in_ascii() -> None:
    assert [shown(v) for v in (None, True, [], (), {}, 1.5, "é\ud83d")] == [
        "null",
        "true",
        "a list",
        "a list",
        "an object",
        "1.5",
        r"'\xe9\ud83d'",
    ]
    assert shown("x" * 99) == "'" + "x" * 36 + "..."
