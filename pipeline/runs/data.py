"""Which data a run was trained on, and whether a score is on the same data.

run.json holds the name of the data set and the digests of the splits that a training used. A score
is on the run's own cache if that cache holds these splits, with features of the same type, wherever
it lies. A run without the digests is of an earlier version: then the folder decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.cache.format.manifest import ShardRecord
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.runs.sealed import digest_json


@dataclass(frozen=True)
class TrainingData:
    """Cache folder, type of its features, data set (None if unknown), digests of splits by name."""

    cache: Path
    dtype: str
    dataset: str | None = None
    splits: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ScoredData:
    """What a score is on.

    Attributes:
        dataset: As `extract-features --dataset` has it; None if the cache does not say.
        cache_digest: Digest of every number that the score depends on, but for the head's.
        own_cache: Whether the cache is the one of the training.
        trained_on: Whether the head, or any of an ensemble, was trained on the questions that it is
            scored on.
    """

    dataset: str | None
    cache_digest: str
    own_cache: bool
    trained_on: bool


def record_data(cache: FeatureCache, config: TrainConfig) -> dict[str, Any]:
    """Return what run.json says about the data of a training."""
    names = (config.train_split, config.val_split)
    used = {name: record for name, record in cache.manifest.splits.items() if name in names}
    train = used.get(config.train_split)
    return {
        "dataset": train.origin.get("dataset") if train else None,
        "splits": {name: record.xxh3 for name, record in used.items()},
    }


def describe_score(
    trained: TrainingData, train_split: str, cache: FeatureCache, split: str
) -> ScoredData:
    """Say how a split of a cache, with at least one question, relates to the data of a training."""
    if trained.splits:
        theirs = {name: record.xxh3 for name, record in cache.manifest.splits.items()}
        own = trained.splits.items() <= theirs.items() and cache.spec.dtype == trained.dtype
    else:
        own = trained.cache.resolve() == cache.directory.resolve()
    facts = fingerprint_cache(cache, {split: cache.split(split)})
    return ScoredData(
        dataset=_dataset(cache, split),
        cache_digest=digest_json(facts),
        own_cache=own,
        trained_on=is_trained_on(trained, train_split, cache, split),
    )


def is_trained_on(trained: TrainingData, train_split: str, cache: FeatureCache, split: str) -> bool:
    """Return whether a head was trained on a split of a cache, as far as run.json tells."""
    mine, theirs = (trained.splits or {}).get(train_split), cache.manifest.splits.get(split)
    if mine is None or theirs is None:
        return split == train_split
    # The same split may have been extracted once more, in another order or with a limit.
    again = split == train_split and _dataset(cache, split) == trained.dataset is not None
    return theirs.xxh3 == mine or again


def _dataset(cache: FeatureCache, split: str) -> str | None:
    return cache.manifest.splits[split].origin.get("dataset")


def fingerprint_cache(cache: FeatureCache, splits: Mapping[str, SplitTable]) -> dict[str, Any]:
    """Return digests of every number that is read with these splits, by name.

    They are of the encoders' settings, the tables of the splits, and the shards up to the last row
    that these use. So a cache that was moved, or extended with other splits, counts as the same.
    """
    manifest, tables = cache.manifest, splits.values()
    images = max(int(table.image_rows.max()) for table in tables)
    questions = max(int(table.question_rows.max()) for table in tables)
    return {
        **cache.spec.settings(),
        **{f"split {name}": manifest.splits[name].xxh3 for name in splits},
        "shards of pictures": _digest_shards(manifest.images, images),
        "shards of questions": _digest_shards(manifest.questions, questions),
    }


def _digest_shards(shards: Sequence[ShardRecord], last_row: int) -> str:
    used, rows = [], 0
    for shard in shards:
        if rows > last_row:
            break
        rows += shard.rows
        used.append(shard.xxh3)
    return digest_json(used)
