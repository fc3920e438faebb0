"""Prefixes that are computed together have the states of questions that are computed alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.prefixes import PrefixTable, prefix_trees


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder("tiny")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(2, 6), max_size=9), min_size=1, max_size=12),
    st.integers(1, 40),
)
def test_states_are_those_of_each_question_alone(
    encoder: TextEncoder, drawn: list[list[int]], most: int
) -> None:
    tokens = {str(question): [encoder.bos, *question] for question in drawn}
    table = PrefixTable()
    paths = {question: table.add(one) for question, one in tokens.items()}
    seen: list[str] = []
    for tree in prefix_trees(tokens, tokens, paths, most=most):
        states = encoder.encode_tree(tree.tokens, tree.parents)
        assert states.shape == (len(tree), encoder.dim)
        assert len(tree) <= most or len(tree.questions) == 1
        for question in tree.questions:
            alone = encoder.encode([tokens[question]])[0]
            mine = states[[tree.places[row] for row in paths[question]]]
            torch.testing.assert_close(mine, alone, rtol=0, atol=1e-5)
        seen += tree.questions
    assert sorted(seen) == sorted(tokens)  # each once


def test_a_prefix_is_in_a_tree_once() -> None:
    tokens = {"a": [1, 2, 3], "b": [1, 2, 4], "c": [1, 5]}
    table = PrefixTable()
    paths = {question: table.add(one) for question, one in tokens.items()}

    (tree,) = prefix_trees(["c", "b", "a"], tokens, paths, most=6)
    assert (tree.tokens, tree.parents) == ([1, 2, 3, 4, 5], [-1, 0, 1, 1, 0])
    assert tree.questions == ["a", "b", "c"]
    assert [len(one) for one in prefix_trees(tokens, tokens, paths, most=4)] == [4, 2]


def test_the_order_of_questions_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    tokens = {str(i): [0, *rng.integers(0, 3, 5).tolist(), i] for i in range(40)}
    table = PrefixTable()
    paths = {question: table.add(one) for question, one in tokens.items()}
    shuffled = rng.permutation(list(tokens)).tolist()
    one, other = (list(prefix_trees(order, tokens, paths, most=30)) for order in (tokens, shuffled))
    assert one == other
