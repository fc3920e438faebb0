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
from frozen_vqa.cache.arrivals import address_of
from frozen_vqa.cache.format.records.files import ShardRecord
from frozen_vqa.cache.stores.address import is_url
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.runs.held_out import find_held_out, split_of
from frozen_vqa.pipeline.runs.sealed import digest_json


@dataclass(frozen=True)
class TrainingData:
    """What a head was trained on.

    Attributes:
        cache: Its folder or URL, and `dtype` the type of its features.
        dataset: As `extract-features --dataset` has it; None if unknown.
        splits: Digests of the splits by name; None if unknown.
        held_out: The name of the part of the training split that was held out; None if none was.
    """

    cache: str
    dtype: str
    dataset: str | None = None
    splits: Mapping[str, str] | None = None
    held_out: str | None = None


@dataclass(frozen=True)
class ScoredData:
    """What a score is on.

    Attributes:
        dataset: As `extract-features --dataset` has it; None if the cache does not say.
        cache_digest: Digest of every number that the score depends on, but for the head's.
        own_cache: Whether the cache is the one of the training.
        trained_on: Whether the head, or any of an ensemble, was trained on the questions that it is
            scored on.
        chosen_on: Whether these questions chose the best epoch of the head, or of any.
    """

    dataset: str | None
    cache_digest: str
    own_cache: bool
    trained_on: bool
    chosen_on: bool


def record_data(cache: FeatureCache, config: TrainConfig) -> dict[str, Any]:
    """Return what run.json says about the data of a training."""
    names = (config.train_split, split_of(config.validation, cache.manifest.splits))
    used = {name: record for name, record in cache.manifest.splits.items() if name in names}
    train = used.get(config.train_split)
    return {
        "dataset": train.origin.get("dataset") if train else None,
        "splits": {name: record.xxh3 for name, record in used.items()},
        **({"held_out": config.validation} if config.val_fraction else {}),
    }


Trained = tuple[TrainingData, TrainConfig]
"""What a head was trained on, and with which settings."""


def describe_score(
    heads: Sequence[Trained], cache: FeatureCache, split: str, table: SplitTable
) -> ScoredData:
    """Say how the questions of a split relate to the trainings of a head and of its ensemble.

    `table` has these questions, at least one.
    """
    trained = heads[0][0]
    if trained.splits:
        theirs = {name: record.xxh3 for name, record in cache.manifest.splits.items()}
        own = trained.splits.items() <= theirs.items() and cache.spec.dtype == trained.dtype
    else:
        own = _is_there(trained, cache)
    facts = fingerprint_cache(cache, {split: table})
    return ScoredData(
        dataset=_dataset(cache, split),
        cache_digest=digest_json(facts),
        own_cache=own,
        trained_on=any(is_trained_on(*one, cache, split) for one in heads),
        chosen_on=any(_is_chosen_on(*one, cache, split) for one in heads),
    )


def is_trained_on(
    trained: TrainingData, config: TrainConfig, cache: FeatureCache, split: str
) -> bool:
    """Return whether a head was trained on a split of a cache, as far as run.json tells."""
    splits, train_split = cache.manifest.splits, config.train_split
    part, whole = find_held_out(split, splits), split_of(split, splits)
    mine, theirs = (trained.splits or {}).get(train_split), splits.get(whole)
    own = find_held_out(trained.held_out, ())
    if mine is None or theirs is None:
        return whole == train_split and not (own and own.holds(part))
    # The same split may have been extracted once more: in another order, with a limit, with more
    # pictures (then others are held out), or from a folder that was moved, into the same cache.
    again = whole == train_split and (
        _dataset(cache, split) == trained.dataset is not None or _is_there(trained, cache)
    )
    held_out = theirs.xxh3 == mine and own is not None and own.holds(part)
    return (theirs.xxh3 == mine or again) and not held_out


def _is_there(trained: TrainingData, cache: FeatureCache) -> bool:
    """Whether a cache is where the one of a training was."""
    place = trained.cache if is_url(trained.cache) else str(Path(trained.cache).resolve())
    return place == address_of(cache.directory)


def _is_chosen_on(
    trained: TrainingData, config: TrainConfig, cache: FeatureCache, split: str
) -> bool:
    """Return whether a split of a cache chose the best epoch of a head."""
    record = cache.manifest.splits.get(split_of(split, cache.manifest.splits))
    noted = (trained.splits or {}).get(split_of(config.validation, trained.splits or ()))
    same = record is not None and noted in (None, record.xxh3)
    return same and split == config.validation and config.keep == "best" and config.epochs > 1


def _dataset(cache: FeatureCache, split: str) -> str | None:
    splits = cache.manifest.splits
    return splits[split_of(split, splits)].origin.get("dataset")


def fingerprint_cache(cache: FeatureCache, splits: Mapping[str, SplitTable]) -> dict[str, Any]:
    """Return digests of every number that is read with these splits, by name.

    They are of the encoders' settings, the tables of the splits, and the shards up to the last row
    that these use. So a cache that was moved, or extended with other splits, counts as the same.
    """
    manifest, tables = cache.manifest, splits.values()
    images = max(int(table.all_image_rows.max()) for table in tables)
    questions = max(int(table.all_question_rows.max()) for table in tables)
    return {
        **cache.spec.settings(),
        **{f"split {n}": manifest.splits[split_of(n, manifest.splits)].xxh3 for n in splits},
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
