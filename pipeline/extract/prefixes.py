"""Distinct token prefixes: the rows that a causal language model computes once.

Llama's state at a position depends on the tokens up to it alone. So two questions share the states
of their common beginning, and a cache needs one row per distinct *prefix*:

    <s> what color is the car     rows 0 1 2 3 4 5
    <s> what color is the dog     rows 0 1 2 3 4 6
    <s> what is this              rows 0 1 7 8

A model whose tokens see all of their question has no such rows: each question has its own.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from frozen_vqa.cache.large.dicts import Numbers


class PrefixTable:
    """Gives each distinct prefix a row, in order of first appearance.

    Args:
        parents: (prefixes,) of existing rows: the row of the one-token-shorter prefix, or -1.
        tokens: (prefixes,) of existing rows: the last token.
        shared: Whether a prefix that is there already is taken; else every one is new.
    """

    def __init__(
        self, parents: Iterable[int] = (), tokens: Iterable[int] = (), *, shared: bool = True
    ) -> None:
        self._shared = shared
        self.parents, self.tokens = array("q", parents), array("q", tokens)
        self._rows = Numbers[int]()
        for row, pair in enumerate(zip(self.parents, self.tokens, strict=True)):
            if shared and self._rows[_key(*pair)] != row:  # we write no prefix twice
                self._rows[_key(-2 - row, 0)]  # which no prefix has

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, tokens: Sequence[int]) -> list[int]:
        """Return the row of each prefix of `tokens`; add the new ones."""
        path = []
        row = -1
        for token in tokens:
            known = self._rows[_key(row, token)] if self._shared else len(self.tokens)
            if known == len(self.tokens):
                self.parents.append(row)
                self.tokens.append(token)
            path.append(row := known)
        return path

    def since(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Return parents and tokens of the rows from `first` on, both (rows,)."""
        return (
            np.array(self.parents[first:], dtype=np.int64),
            np.array(self.tokens[first:], dtype=np.int64),
        )


def _key(parent: int, token: int) -> int:
    """Return one number for a prefix: the row of its beginning, and its last token."""
    return (parent << 64) + token


@dataclass(frozen=True)
class PrefixTree:
    """Prefixes that are computed together, each once; a prefix stands behind its beginnings.

    Attributes:
        places: The place of each prefix in the tree, by its row.
        tokens: Its last token.
        parents: The place of the prefix that is one token shorter; -1 at the first token.
        questions: Those whose last token is the end of a branch.
    """

    places: dict[int, int] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, question: str, path: Sequence[int], tokens: Sequence[int]) -> None:
        """Add a question: the rows of its prefixes, and their last tokens."""
        parent = -1
        for row, token in zip(path, tokens, strict=True):
            if row not in self.places:
                self.places[row] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(parent)
            parent = self.places[row]
        self.questions.append(question)


def prefix_trees(
    questions: Iterable[str],
    tokens: Mapping[str, Sequence[int]],
    paths: Mapping[str, Sequence[int]],
    *,
    most: int,
) -> Iterator[PrefixTree]:
    """Yield trees of at most `most` prefixes, or of one question that is longer.

    `tokens` and `paths` have the tokens of each question and the rows of its prefixes. Questions
    are taken in the order of their tokens, because neighbours have the longest common beginnings.
    """
    tree = PrefixTree()
    for question in sorted(questions, key=lambda text: list(tokens[text])):
        path = paths[question]
        if tree.tokens and len(tree) + len(set(path) - tree.places.keys()) > most:
            yield tree
            tree = PrefixTree()
        tree.add(question, path, tokens[question])
    if tree.tokens:
        yield tree
