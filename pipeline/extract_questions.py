"""Stage one's questions: one row per distinct token prefix, computed once.

The cache's prefixes make a tree. Of the questions that a shard adds, only the leaves are run: a
question that is the beginning of another gets its states from the longer one.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from cache import CacheWriter
from cache.writer import NewQuestions
from pipeline.display import progress
from pipeline.encoders import TextEncoder
from pipeline.extract_images import stored
from pipeline.plan import Plan
from pipeline.prefixes import PrefixTable

TEXT_BATCH = 64
"""Questions of equal length per batch; a constant, because it may change the last bit."""


def missing_questions(plan: Plan, writer: CacheWriter) -> list[str]:
    """Return the distinct questions that the cache lacks, in the order of the plan."""
    known = writer.question_rows()
    return [text for text in plan.questions if text not in known]


def missing_prefixes(plan: Plan, writer: CacheWriter) -> int:
    """Return how many rows the cache lacks for the questions of a plan."""
    table = PrefixTable(*writer.prefixes())
    before = len(table)
    for text in missing_questions(plan, writer):
        table.add(plan.questions[text])
    return len(table) - before


def extract_questions(
    plan: Plan, writer: CacheWriter, encoder: TextEncoder, *, shard_bytes: int
) -> None:
    """Encode the distinct questions that the cache lacks.

    Args:
        plan: Names the questions and their tokens.
        writer: Of the cache, open.
        encoder: Encodes them.
        shard_bytes: Features per shard; a shard ends with the question that fills it.
    """
    missing = missing_questions(plan, writer)
    if not missing:
        return
    table = PrefixTable(*writer.prefixes())
    rows = max(1, shard_bytes // writer.manifest.spec.prefix_row_bytes)
    with progress("questions", len(missing)) as advance:
        while missing:
            first = len(table)
            paths: dict[str, list[int]] = {}
            for text in missing:
                if len(table) - first >= rows:
                    break
                paths[text] = table.add(plan.questions[text])
            missing = missing[len(paths) :]
            states = np.empty((len(table) - first, encoder.dim), dtype=writer.manifest.spec.dtype)
            for batch, done in _equal_lengths(paths, first):
                if batch:
                    _fill(states, first, batch, paths, plan, encoder)
                advance(done)
            parents, tokens = table.since(first)
            writer.add_questions(
                NewQuestions(list(paths), list(paths.values()), parents, tokens, states)
            )


def _equal_lengths(paths: dict[str, list[int]], first: int) -> Iterator[tuple[list[str], int]]:
    """Yield batches of questions of one length, and how many questions each settles."""
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


def _fill(
    states: np.ndarray,
    first: int,
    batch: Sequence[str],
    paths: dict[str, list[int]],
    plan: Plan,
    encoder: TextEncoder,
) -> None:
    """Run one batch and store the states of its new prefixes in `states`."""
    rows = np.array([paths[text] for text in batch])  # (questions, length)
    encoded = encoder.encode([plan.questions[text] for text in batch])
    new = rows >= first
    states[rows[new] - first] = stored(encoded, states.dtype.name)[new]
