"""One small cache in several shards: written, read, and damaged in ways that a test asks for."""

from pathlib import Path

import h5py
import numpy as np

from frozen_vqa.cache import CacheWriter, FeatureCache, SplitTable
from frozen_vqa.cache.format.shards import NewQuestions
from tests.support.caches import (
    PATCHES,
    TEXT_DIM,
    VISION_DIM,
    add_images,
    add_questions,
    make_spec,
    new_images,
)

SHARDS = (3, 1, 4)
ROWS = sum(SHARDS)
RNG = np.random.default_rng(1)
PICTURES = RNG.standard_normal((ROWS, PATCHES, VISION_DIM)).astype(np.float16)
STATES = RNG.standard_normal((6, TEXT_DIM)).astype(np.float16)
PATHS = [[0, 1, 2], [0, 3], [0, 1, 4, 5], [0]]
TEXTS = ["one", "zwei", "", "fünf?"]
SPLIT = SplitTable(
    [5, "5"], np.array([7, 0]), np.array([3, 1]), [("a", "b"), ()], ["", "t"], ["", ""]
)


def write(directory: Path) -> None:
    none = np.empty(0, np.int64)
    with CacheWriter(directory, make_spec()) as writer:
        for first, last in zip(np.cumsum([0, *SHARDS]), np.cumsum(SHARDS), strict=False):
            ids = [f"p{i}" for i in range(first, last)]
            rows = PICTURES[first:last]
            add_images(writer, new_images(ids, rows, np.ascontiguousarray(rows[:, 0])))
        add_questions(
            writer,
            NewQuestions(TEXTS[:2], PATHS[:2], np.array([-1, 0, 1, 0]), np.arange(4), STATES[:4]),
        )
        add_questions(
            writer, NewQuestions(TEXTS[2:3], PATHS[2:3], np.array([1, 4]), np.arange(2), STATES[4:])
        )
        add_questions(writer, NewQuestions(TEXTS[3:], PATHS[3:], none, none, STATES[:0]))
        writer.set_split("val", SPLIT, left_out=1)
        writer.set_split("test", SPLIT, left_out=0)


def read(cache: FeatureCache, rows: list[int], dtype: type = np.float16) -> np.ndarray:
    out = np.full((len(rows), PATCHES, VISION_DIM), np.nan, dtype=dtype)
    cache.read_images(np.array(rows, dtype=np.int64), out)
    return out


def flip_row(path: Path, dataset: str, row: int) -> None:
    with h5py.File(path, "r+") as file:
        rows = file[dataset][row]
        rows.view(np.uint8).flat[-1] ^= 1
        file[dataset][row] = rows
