"""The work of an extraction: the rows of a plan that the cache lacks, in chunks of one shard each.

A chunk is named by a digest of everything that determines its content. So every rank finds the
same chunks under the same names, and a chunk that a dead extraction has finished is recognised.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.cache import CacheSpec, Manifest
from frozen_vqa.cache.disk.integrity import read_prefixes
from frozen_vqa.cache.disk.row_names import names_by_shard
from frozen_vqa.cache.disk.staging import chunk_key
from frozen_vqa.cache.format.records.files import KINDS, ShardKind
from frozen_vqa.cache.large.dicts import LargeDict
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

    def packed(self) -> tuple[Any, ...]:
        """Return what `LargeDict` keeps of it."""
        questions = {text: list(self.questions[text]) for text in self.paths}
        return (
            questions,
            dict(self.paths),
            self.first,
            self.parents.tobytes(),
            self.tokens.tobytes(),
        )

    @classmethod
    def unpacked(cls, found: tuple[Any, ...]) -> "QuestionChunk":
        """Return the chunk that was packed."""
        questions, paths, first, *columns = found
        return cls(questions, paths, first, *(np.frombuffer(one, np.int64) for one in columns))


@dataclass(frozen=True)
class MissingWork:
    """The chunks to encode by their names, and the rows that the cache has already, by name."""

    rows: Mapping[ShardKind, LargeDict[str, int]]
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
    rows = {kind: stored_rows(cache, manifest, kind) for kind in KINDS}
    images = chunk_images(plan, rows["images"], max(1, shard_bytes // spec.image_row_bytes))
    questions = chunk_questions(
        plan,
        rows["questions"],
        PrefixTable(*read_prefixes(cache, manifest), shared=plan.shared),
        max(1, shard_bytes // spec.prefix_row_bytes),
    )
    some = LargeDict[str, Sequence[Id]](large=True)
    for chunk in images:
        some.setdefault(chunk_key(spec, origin, chunk), chunk)
    others = LargeDict[str, QuestionChunk](QuestionChunk.packed, QuestionChunk.unpacked, large=True)
    for of_questions in questions:
        others.setdefault(chunk_key(spec, origin, of_questions.to_json()), of_questions)
    return MissingWork(rows, some, others)


def stored_rows(cache: Path, manifest: Manifest, kind: ShardKind) -> LargeDict[str, int]:
    """Return the row of each image id or question that the cache has."""
    return add_rows(LargeDict(), cache, manifest, kind, first=0)


def add_rows(
    rows: LargeDict[str, int], cache: Path, manifest: Manifest, kind: ShardKind, *, first: int
) -> LargeDict[str, int]:
    """Add the rows of the shards from `first` on to those of the shards before them."""
    before = sum(manifest.shards(kind).column("rows")[:first])
    names = chain.from_iterable(names_by_shard(cache, manifest, kind, first))
    for row, name in enumerate(names, start=before):
        rows.setdefault(name, row)
    return rows


def chunk_images(plan: Plan, stored: Collection[str], rows: int) -> Iterator[list[Id]]:
    """Yield the pictures that the cache lacks, in chunks of at most `rows`.

    The chunk of a picture depends on its place in the plan alone, so it does not matter which
    pictures were stored or have failed before.
    """
    for _, chunk in groupby(enumerate(plan.images), lambda placed: placed[0] // rows):
        if missing := [image_id for _, image_id in chunk if plan.name(image_id) not in stored]:
            yield missing


def chunk_questions(
    plan: Plan, stored: Collection[str], table: PrefixTable, rows: int
) -> Iterator[QuestionChunk]:
    """Yield the distinct questions that the cache lacks, in chunks.

    A chunk ends with the question that brings it to `rows` prefixes. `table` has the prefixes of
    the cache, and gets those of the chunks.
    """
    paths: dict[str, Sequence[int]] = {}
    first = len(table)
    for text, tokens in plan.questions.items():
        if text not in stored:
            paths[text] = table.add(tokens)
        if len(table) - first >= rows:
            yield QuestionChunk(plan.questions, paths, first, *table.since(first))
            paths, first = {}, len(table)
    if paths:
        yield QuestionChunk(plan.questions, paths, first, *table.since(first))
