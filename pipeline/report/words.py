"""From tokens to the words that a reader sees.

A text encoder cuts a question into pieces such as " ele" and "phant". Attention is joined word by
word: the map of a word is the mean of its pieces' maps, and what a patch gives a word is the sum of
what it gives the pieces. Both still add up to 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.encoders.pieces import Span, token_spans
from frozen_vqa.pipeline.errors import ModelError

START, END = "⟨start⟩", "⟨end⟩"
"""What the page calls BOS, the token before every question, and what some models have after it."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]+")


@dataclass(frozen=True)
class Words:
    """The words of a question.

    Attributes:
        texts: Each word as it was written; the first one is `START`, the last one may be `END`.
        spaced: Whether a space stands before each word.
        pieces: (words,) number of tokens of each word, which lie side by side.
    """

    texts: tuple[str, ...]
    spaced: tuple[bool, ...]
    pieces: tuple[int, ...]

    def mean(self, tokens: np.ndarray) -> np.ndarray:
        """Average what is (tokens, ...) over the pieces of each word: (words, ...)."""
        shape = (-1, *[1] * (tokens.ndim - 1))
        return self.sum(tokens) / np.reshape(self.pieces, shape)

    def sum(self, tokens: np.ndarray) -> np.ndarray:
        """Add up what is (tokens, ...) over the pieces of each word: (words, ...)."""
        return np.add.reduceat(tokens, np.cumsum((0, *self.pieces[:-1])), axis=0)


def read_words(cache: FeatureCache, rows: Sequence[int]) -> tuple[dict[int, Words], str]:
    """Return the words of some distinct questions of a cache, by row, and what is amiss.

    Where the tokenizer is not at hand, tokens stand for words, and are numbered.
    """
    texts, lengths = cache.questions.texts, cache.questions.lengths()
    try:
        every = token_spans(cache.spec.text, [texts[row] for row in rows])
        amiss = ""
    except ModelError as error:
        every = [[] for _ in rows]
        amiss = f"Tokens are numbered instead of named, because {error}."
    found = {}
    for row, spans in zip(rows, every, strict=True):
        found[row] = words_of(texts[row], spans, int(lengths[row]))
    return found, amiss


def words_of(question: str, spans: Sequence[Span], tokens: int) -> Words:
    """Return the words of a question; its `tokens` are numbered if the `spans` do not fit them."""
    if len(spans) not in (tokens - 1, tokens - 2):
        return _numbered(tokens)
    words = join_pieces(question, spans)
    if len(spans) == tokens - 1:
        return words
    return Words((*words.texts, END), (*words.spaced, True), (*words.pieces, 1))


def join_pieces(question: str, spans: Sequence[Span]) -> Words:
    """Join the tokens of a question to words; `spans` are the characters that each covers.

    A token belongs to the word of its first character that is no space, or to the word before.
    """
    owner = np.zeros(len(question) + 1, dtype=int)
    for number, match in enumerate(_WORD.finditer(question), start=1):
        owner[match.start() : match.end()] = number
    groups: list[list[Span]] = []
    last = -1
    for start, end in spans:
        inside = owner[start:end][owner[start:end] > 0]
        word = int(inside[0]) if len(inside) else last
        if word != last or not groups:
            groups.append([])
            last = word
        groups[-1].append((start, end))
    texts, spaced = [START], [False]
    for group in groups:
        start, end = group[0][0], max(span[1] for span in group)
        text = question[start:end]
        spaced.append(text[:1].isspace() or question[start - 1 : start].isspace())
        texts.append(text.strip() or "␣")
    return Words(tuple(texts), tuple(spaced), (1, *map(len, groups)))


def _numbered(tokens: int) -> Words:
    names = (START, *(str(i) for i in range(1, tokens)))
    return Words(names, (False, *[True] * (tokens - 1)), (1,) * tokens)
