"""The questions of a cache, about pictures with rows as large as those of DINOv2-base."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.generated import POOL_PATCHES, add, features, image_shards, write_cache
from benchmarks.step.data import GRID, VISION_DIM
from frozen_vqa.cache import CacheSpec, CacheWriter, FeatureCache, SplitTable
from frozen_vqa.cache.disk.integrity import read_prefixes
from frozen_vqa.cache.format.shards import NewQuestions, question_shard

TEXT_DIM = 128
QUESTIONS_PER_PICTURE, DISTINCT, ANSWERS = 10, 46, 13
"""As in easy-VQA."""


def write_real_rows(directory: Path, source: Path | None, *, pictures: int) -> None:
    """Write a cache with the splits `train` and `val`.

    Args:
        directory: Of the new cache.
        source: A cache with the splits `train` and `test` whose questions are taken, or None for
            generated ones.
        pictures: How many, at most; of a source, a fifth of them is from `test`.
    """
    spec = CacheSpec(
        vision={"model": "generated"},
        text={"model": "generated"},
        grid=GRID,
        vision_dim=VISION_DIM,
        text_dim=TEXT_DIM,
    )
    if source is None:
        write_cache(
            directory,
            images=pictures,
            questions_per_image=QUESTIONS_PER_PICTURE,
            distinct_questions=DISTINCT,
            answers=ANSWERS,
            spec=spec,
        )
        return
    old = FeatureCache(source)
    spec = replace(spec, text_dim=old.spec.text_dim)
    rng = np.random.default_rng(0)
    splits: dict[str, SplitTable] = {}
    first = 0
    for name, of, share in (("train", "train", pictures * 4 // 5), ("val", "test", pictures // 5)):
        splits[name] = _first_pictures(old.split(of), share, first)
        first = int(splits[name].image_rows.max()) + 1
    with CacheWriter(directory, spec) as writer:
        pool = features(rng, POOL_PATCHES, spec.vision_dim, spec)
        for shard in image_shards(spec, pool, first, rng):
            add(writer, shard)
        add(writer, question_shard(spec, _questions(source, old)))
        for name, split in splits.items():
            writer.set_split(name, split)


def _first_pictures(split: SplitTable, count: int, first: int) -> SplitTable:
    """Return the questions about the first pictures of a split, which get rows from `first` on."""
    kept = np.unique(split.image_rows)[:count]
    rows = np.flatnonzero(np.isin(split.image_rows, kept))
    taken = split.take(rows)
    return replace(taken, image_rows=first + np.searchsorted(kept, taken.image_rows))


def _questions(directory: Path, cache: FeatureCache) -> NewQuestions:
    parents, tokens = read_prefixes(directory, cache.manifest)
    questions = cache.questions
    paths = np.split(questions.path_rows, questions.path_offsets[1:-1])
    return NewQuestions(
        texts=list(questions.texts),
        paths=[path.tolist() for path in paths],
        parents=parents,
        tokens=tokens,
        hidden_states=questions.hidden_states,
    )
