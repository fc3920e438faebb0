"""The part of a training split that is held out to validate with, where a data set has no other.

It is a share of the pictures with all their questions, because questions about one picture resemble
each other. Which pictures these are depends on their ids, the share and the seed alone: not on the
order of the questions, so a second extraction of these pictures holds out the same ones. In a split
that gains or loses pictures other ones are held out, and `is_trained_on` in `data.py` knows that.

Such a part has a name like that of a split, "train@0.1", or "train@0.1@7" with the seed 7. Commands
take it wherever they take a split. A split of the cache that has this very name comes first.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import xxhash

from frozen_vqa.cache import CacheError, FeatureCache, SplitTable
from frozen_vqa.pipeline.config import TrainConfig

_NAME = re.compile(r"(?P<split>.+?)@(?P<fraction>0?\.\d+|\d\.?\d*e-\d+)(@(?P<seed>\d{1,19}))?")


@dataclass(frozen=True)
class HeldOut:
    """A share of the pictures of a split; `name` is that of the part."""

    split: str
    fraction: float
    seed: int

    def holds(self, other: "HeldOut | None") -> bool:
        """Whether all of another part of the same split is in this one."""
        return other is not None and self.seed == other.seed and self.fraction >= other.fraction

    def pictures(self, image_ids: Collection[str]) -> set[str]:
        """Return the ids of the pictures that are held out: those with the smallest digests."""
        text = (f"{self.seed} {image_id}" for image_id in image_ids)
        ranked = sorted(text, key=lambda one: (xxhash.xxh3_64(one.encode()).digest(), one))
        count = min(max(1, round(self.fraction * len(ranked))), len(ranked) - 1)
        return {one.partition(" ")[2] for one in ranked[:count]}


def find_held_out(name: str | None, splits: Collection[str]) -> HeldOut | None:
    """Return the part that a name means; None if it is the name of a split, or of nothing."""
    found = _NAME.fullmatch(name or "")
    if not found or name in splits:
        return None
    return HeldOut(found["split"], float(found["fraction"]), int(found["seed"] or 0))


def split_of(name: str, splits: Collection[str]) -> str:
    """Return the split that a part is of, or the name itself."""
    part = find_held_out(name, splits)
    return part.split if part else name


def read_split(cache: FeatureCache, name: str) -> SplitTable:
    """Return the questions of a split, or of a part of one that is held out.

    Raises:
        CacheError: if the cache has no such split, or only one picture to be divided, or if some
            questions are about more pictures than others.
    """
    part = find_held_out(name, cache.manifest.splits)
    return _divide(cache, part)[1] if part else _whole(cache, name)


def read_training(cache: FeatureCache, config: TrainConfig) -> SplitTable:
    """Return the questions to train on: those of the split without what is held out."""
    part = find_held_out(config.validation, ()) if config.val_fraction else None
    return _divide(cache, part)[0] if part else _whole(cache, config.train_split)


def _whole(cache: FeatureCache, name: str) -> SplitTable:
    table = cache.split(name)
    try:
        _ = table.picture_rows
    except CacheError as error:
        raise CacheError(f"{cache.name}: split {name!r}: {error}") from None
    return table


def require_pictures(cache: FeatureCache, name: str, table: SplitTable, needed: int) -> None:
    """Raise `CacheError` unless the questions of a split have as many pictures as a head reads."""
    found = table.picture_rows.shape[1]
    if found != needed:
        raise CacheError(
            f"{cache.name}: pictures of each question: {found} in split {name!r}, and the "
            f"head reads {needed}; name a split of the data that the head is for"
        )


def _divide(cache: FeatureCache, part: HeldOut) -> tuple[SplitTable, SplitTable]:
    """Return the rest of a split, and the part of it that is held out.

    No picture is in both, so pictures that questions link go together, under the first of their
    ids, and so do questions that name one picture in different ways.
    """
    table = _whole(cache, part.split)
    linked, least = table.linked_rows.tolist(), dict[int, str]()
    for link, own in zip(linked, table.ids_of_pictures(cache.image_ids()), strict=True):
        least[link] = min(least.get(link, own[0]), *own)
    ids = [least[link] for link in linked]
    if len(set(ids)) < 2:
        raise CacheError(
            f"{cache.name}: split {part.split!r} has {len(set(ids))} pictures with questions, "
            "so none can be held out by --val-fraction; at least two are needed"
        )
    held = part.pictures(set(ids))
    inside = np.array([image_id in held for image_id in ids])
    return table.take(np.flatnonzero(~inside)), table.take(np.flatnonzero(inside))
