"""The work of an extraction: the rows of a plan that the cache lacks, in chunks of one shard each.

A chunk is named by a digest of everything that determines its content. So every rank finds the
same chunks under the same names, and a chunk that a dead extraction has finished is recognised.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frozen_vqa.cache import CacheSpec, Manifest
from frozen_vqa.cache.disk.integrity import read_names, read_prefixes
from frozen_vqa.cache.disk.staging import chunk_key
from frozen_vqa.cache.format.manifest import ShardKind
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.prefixes import PrefixTable
from frozen_vqa.pipeline.sources.example import Id


@dataclass(frozen=True)
class QuestionChunk:
    """The distinct questions of one shard, before they are encoded.

    Attributes:
        questions: The tokens of these questions, and possibly of others.
        paths: For each question the cache-wide row of each of its prefixes.
        first: The first row that this chunk adds.
        parents, tokens: (prefixes,) parents and last tokens of the rows that it adds.
    """

    questions: Mapping[str, Sequence[int]]
    paths: Mapping[str, Sequence[int]]
    first: int
    parents: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def to_json(self) -> Json:
        """Return the content of the chunk as plain values."""
        return [dict(self.paths), self.first, self.parents.tolist(), self.tokens.tolist()]


@dataclass(frozen=True)
class MissingWork:
    """The chunks to encode by their names, and the row of each id in `image_id` columns."""

    image_rows: Mapping[str, int]
    images: Mapping[str, Sequence[Id]]
    questions: Mapping[str, QuestionChunk]

    def feature_bytes(self, spec: CacheSpec) -> int:
        """Return the bytes of all features to encode."""
        images = sum(len(chunk) for chunk in self.images.values())
        prefixes = sum(len(chunk.tokens) for chunk in self.questions.values())
        return images * spec.image_row_bytes + prefixes * spec.prefix_row_bytes


def find_missing_work(
    plan: Plan, cache: Path, manifest: Manifest, *, shard_bytes: int, origin: Mapping[str, Json]
) -> MissingWork:
    """Return the rows of a plan that a cache lacks, in chunks of `shard_bytes` of features.

    The records of the new shards must carry `origin`, because the chunks' names depend on it.
    """
    spec = manifest.spec
    stored = stored_rows(cache, manifest, "images")
    images = chunk_images(plan, stored, max(1, shard_bytes // spec.image_row_bytes))
    questions = chunk_questions(
        plan,
        stored_rows(cache, manifest, "questions"),
        PrefixTable(*read_prefixes(cache, manifest), shared=plan.shared),
        max(1, shard_bytes // spec.prefix_row_bytes),
    )
    return MissingWork(
        image_rows=stored,
        images={chunk_key(spec, origin, list(chunk)): chunk for chunk in images},
        questions={chunk_key(spec, origin, chunk.to_json()): chunk for chunk in questions},
    )


def stored_rows(cache: Path, manifest: Manifest, kind: ShardKind) -> dict[str, int]:
    """Return the row of each image id or question that the cache has."""
    return {name: row for row, name in enumerate(read_names(cache, manifest, kind))}


def chunk_images(plan: Plan, stored: Collection[str], rows: int) -> list[list[Id]]:
    """Return the pictures that the cache lacks, in chunks of at most `rows`.

    The chunk of a picture depends on its place in the plan alone, so it does not matter which
    pictures were stored or have failed before.
    """
    chunks: dict[int, list[Id]] = {}
    for place, image_id in enumerate(plan.images):
        if plan.name(image_id) not in stored:
            chunks.setdefault(place // rows, []).append(image_id)
    return list(chunks.values())


def chunk_questions(
    plan: Plan, stored: Collection[str], table: PrefixTable, rows: int
) -> list[QuestionChunk]:
    """Return the distinct questions that the cache lacks, in chunks.

    A chunk ends with the question that brings it to `rows` prefixes. `table` has the prefixes of
    the cache, and gets those of the chunks.
    """
    missing = [text for text in plan.questions if text not in stored]
    chunks = []
    paths: dict[str, Sequence[int]] = {}
    first = len(table)
    for text in missing:
        paths[text] = table.add(plan.questions[text])
        if len(table) - first >= rows or text is missing[-1]:
            chunks.append(QuestionChunk(plan.questions, paths, first, *table.since(first)))
            paths, first = {}, len(table)
    return chunks
