"""The prefix table against a set of tuples."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.extract.prefixes import PrefixTable

questions = st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=12)


def brute_force(questions: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Distinct prefixes in the order in which they first appear."""
    return list(dict.fromkeys(tuple(q[: i + 1]) for q in questions for i in range(len(q))))


def spelled(table: PrefixTable, row: int) -> tuple[int, ...]:
    """The tokens of a row, by following its parents."""
    tokens: tuple[int, ...] = ()
    while row >= 0:
        tokens = (table.tokens[row], *tokens)
        row = table.parents[row]
    return tokens


@given(questions)
def test_rows_are_the_distinct_prefixes_in_order(questions: list[list[int]]) -> None:
    table = PrefixTable()
    for question in questions:
        table.add(question)

    assert [spelled(table, row) for row in range(len(table))] == brute_force(questions)


@given(questions)
def test_a_path_spells_its_question_token_by_token(questions: list[list[int]]) -> None:
    table = PrefixTable()
    paths = [table.add(question) for question in questions]

    for question, path in zip(questions, paths, strict=True):
        assert [table.tokens[row] for row in path] == question
        assert [spelled(table, row) for row in path] == brute_force([question])
        assert table.add(question) == path  # a known one makes no row
    assert len(table) == len(brute_force(questions))


@given(questions, st.integers(0, 12))
def test_a_table_goes_on_from_what_was_stored(questions: list[list[int]], cut: int) -> None:
    whole, begun = PrefixTable(), PrefixTable()
    expected = [whole.add(question) for question in questions]
    for question in questions[:cut]:
        begun.add(question)
    first = len(begun)
    parents, tokens = begun.since(0)
    resumed = PrefixTable(parents, tokens)  # as they come from a cache, in numpy

    assert [resumed.add(question) for question in questions] == expected
    new_parents, new_tokens = resumed.since(first)
    assert np.concatenate([parents, new_parents]).tolist() == whole.parents.tolist()
    assert np.concatenate([tokens, new_tokens]).tolist() == whole.tokens.tolist()
    assert new_parents.dtype == new_tokens.dtype == np.int64


def test_the_example_of_the_docstring() -> None:
    questions = [
        ["<s>", "what", "color", "is", "the", "car"],
        ["<s>", "what", "color", "is", "the", "dog"],
        ["<s>", "what", "is", "this"],
    ]
    numbers = {word: len(word) * 100 + ord(word[0]) for words in questions for word in words}
    table = PrefixTable()
    paths = [table.add([numbers[word] for word in words]) for words in questions]

    assert len(set(numbers.values())) == len(numbers)
    assert paths == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 6], [0, 1, 7, 8]]
    assert list(table.parents) == [-1, 0, 1, 2, 3, 4, 4, 1, 7]
