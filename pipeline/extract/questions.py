"""Stage one's questions: one row per distinct token prefix, computed once.

The cache's prefixes make a tree. Of the questions that a shard adds, only the leaves are run: a
question that is the beginning of another gets its states from the longer one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from frozen_vqa.cache import CacheSpec
from frozen_vqa.cache.format.shards import NewQuestions
from frozen_vqa.cache.format.spec import Json
from frozen_vqa.pipeline.encoders.encoders import TextEncoder
from frozen_vqa.pipeline.extract.images import stored
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.extract.throughput import Pace

TEXT_BATCH = 64
"""Questions of equal length per batch; a constant, because it may change the last bit."""


@dataclass(frozen=True)
class QuestionChunk:
    """The distinct questions of one shard, before they are encoded.

    Attributes:
        paths: For each question the cache-wide row of each of its prefixes.
        first: The first row that this chunk adds.
        parents: (prefixes,) of the rows that it adds.
        tokens: (prefixes,) of the rows that it adds.
    """

    paths: Mapping[str, Sequence[int]]
    first: int
    parents: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.paths)

    def to_json(self) -> Json:
        """Return all of it as plain values."""
        return [dict(self.paths), self.first, self.parents.tolist(), self.tokens.tolist()]


def question_chunks(
    plan: Plan, known: Collection[str], table: PrefixTable, rows: int
) -> list[QuestionChunk]:
    """Return the distinct questions that the cache lacks, in pieces of one shard.

    Args:
        plan: Names the questions and their tokens.
        known: Questions that the cache has.
        table: The prefixes that the cache has; gets those of the chunks.
        rows: Prefixes per shard; a shard ends with the question that fills it.
    """
    missing = [text for text in plan.questions if text not in known]
    chunks = []
    paths: dict[str, Sequence[int]] = {}
    first = len(table)
    for text in missing:
        paths[text] = table.add(plan.questions[text])
        if len(table) - first >= rows or text is missing[-1]:
            chunks.append(QuestionChunk(paths, first, *table.since(first)))
            paths, first = {}, len(table)
    return chunks


def encode_questions(
    chunk: QuestionChunk,
    questions: Mapping[str, Sequence[int]],
    encoder: TextEncoder,
    spec: CacheSpec,
    *,
    pace: Pace,
) -> NewQuestions:
    """Encode one chunk.

    Args:
        chunk: What to encode.
        questions: Tokens of every question.
        encoder: Encodes them.
        spec: Of the cache.
        pace: Told of every batch.
    """
    states = np.empty((len(chunk.tokens), encoder.dim), dtype=spec.state_dtype)
    for batch, done in _equal_lengths(chunk):
        if batch:
            rows = np.array([chunk.paths[text] for text in batch])  # (questions, length)
            new = rows >= chunk.first
            with pace.on("encoding"):
                encoded = encoder.encode([questions[text] for text in batch])
                states[rows[new] - chunk.first] = stored(encoded, spec.state_dtype.name)[new]
        pace.advance(done)
    return NewQuestions(
        list(chunk.paths), list(chunk.paths.values()), chunk.parents, chunk.tokens, states
    )


def _equal_lengths(chunk: QuestionChunk) -> Iterator[tuple[list[str], int]]:
    """Yield batches of questions of one length, and how many questions each settles."""
    paths, first = chunk.paths, chunk.first
    known = [text for text, path in paths.items() if path[-1] < first]
    yield [], len(known)  # every prefix of theirs is in the cache
    # A question that is a prefix of another gets its states with the longer one's.
    inner = {row for path in paths.values() for row in path[:-1]}
    leaves = [t for t, path in paths.items() if path[-1] >= first and path[-1] not in inner]
    yield [], len(paths) - len(known) - len(leaves)
    by_length: dict[int, list[str]] = {}
    for text in leaves:
        by_length.setdefault(len(paths[text]), []).append(text)
    for length in sorted(by_length):
        texts = by_length[length]
        for begin in range(0, len(texts), TEXT_BATCH):
            batch = texts[begin : begin + TEXT_BATCH]
            yield batch, len(batch)
