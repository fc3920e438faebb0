"""Small caches with made-up features, written as stage one writes them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from frozen_vqa.cache import CacheSpec, CacheWriter, Failure, SplitTable
from frozen_vqa.cache.disk.staging import stage_shard
from frozen_vqa.cache.format.bfloat16 import BFLOAT16, round_to_bfloat16, to_floats
from frozen_vqa.cache.format.quantise import dequantise, quantise_parts
from frozen_vqa.cache.format.shards import (
    THUMBNAIL,
    NewImages,
    NewQuestions,
    image_shard,
    question_shard,
)

GRID, VISION_DIM, TEXT_DIM = (2, 3), 5, 7
KEYS = itertools.count()
PATCHES = GRID[0] * GRID[1]


@dataclass(frozen=True)
class Row:
    """One question of a split: rows of its picture and of its text, and what it is given.

    A choice is its own text, or the row of the text that asks it, and then named "choice 3".
    """

    image: int
    question: int
    answers: tuple[str, ...] = ()
    question_type: str = ""
    answer_type: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str | int, ...] = ()
    right: int = -1
    more_images: tuple[int, ...] = ()

    @property
    def texts(self) -> tuple[int, ...]:
        """The rows of the texts of its choices; that of the question where only names are given."""
        return tuple(one if isinstance(one, int) else self.question for one in self.choices)


@dataclass(frozen=True)
class Made:
    """A cache on disk, and what a reader of it has to find.

    `patch_embeddings` is (pictures, patches, vision_dim), dequantised; `states` holds (tokens,
    text_dim) of each distinct question; `splits` holds the rows as they were asked for.
    """

    directory: Path
    patch_embeddings: np.ndarray
    states: Sequence[np.ndarray]
    splits: Mapping[str, Sequence[Row]]


def extent_of(path: Path, dataset: str) -> tuple[int, int]:
    """Return the first byte of a dataset and its bytes in each row, as h5py sees them."""
    with h5py.File(path) as file:
        found = file[dataset]
        return found.id.get_offset(), found.id.get_storage_size() // len(found)


def make_spec(**changes: object) -> CacheSpec:
    settings: dict = {
        "vision": {"model": "made-up-vision", "image size": 28},
        "text": {"model": "made-up-text", "layer": -1},
        "grid": GRID,
        "vision_dim": VISION_DIM,
        "text_dim": TEXT_DIM,
    }
    return CacheSpec(**(settings | changes))


def new_images(ids: Sequence[str], patch_embeddings: np.ndarray, cls: np.ndarray) -> NewImages:
    """Pictures whose thumbnails are black."""
    thumbnails = np.zeros((len(ids), THUMBNAIL), np.uint8)
    return NewImages(ids, thumbnails, patch_embeddings, cls)


def add_images(
    writer: CacheWriter,
    new: NewImages,
    *,
    failures: Sequence[Failure] = (),
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Add one shard of pictures, and what it had to leave out."""
    spec = writer.manifest.spec
    shard = image_shard(spec, new, origin=origin) if new.image_ids else None
    key = f"{next(KEYS):016x}"
    stage_shard(writer.directory, key, shard, kind="images", failures=failures)
    assert writer.adopt("images", [key]) == 1


def add_questions(writer: CacheWriter, new: NewQuestions) -> None:
    """Add one shard of distinct questions."""
    key = f"{next(KEYS):016x}"
    stage_shard(writer.directory, key, question_shard(writer.manifest.spec, new), kind="questions")
    assert writer.adopt("questions", [key]) == 1


def make_cache(
    directory: Path,
    splits: Mapping[str, Sequence[Row]],
    *,
    patch_embeddings: np.ndarray | None = None,
    states: Sequence[np.ndarray] | None = None,
    spec: CacheSpec | None = None,
    left_out: int = 0,
    seed: int = 0,
    dataset: str | None = None,
    metric: str | None = None,
    shards: int = 2,
) -> Made:
    """Write a cache; features that are not given are random.

    Pictures lie in this many shards. Random questions share their first token, as real ones share
    BOS, and are 1, 2, 3, 4, 1, 2, ... tokens long.
    """
    spec = spec or make_spec()
    rng = np.random.default_rng(seed)
    rows = [row for split in splits.values() for row in split]
    if patch_embeddings is None:
        images = [image for row in rows for image in (row.image, *row.more_images)]
        shape = (1 + max(images), spec.patches, spec.vision_dim)
        patch_embeddings = rng.standard_normal(shape)
    scales = None
    if spec.quantised:
        stored, scales = quantise_parts(np.asarray(patch_embeddings), spec.vision_dims)
        patch_embeddings = dequantise(stored, scales, spec.vision_dims)
    else:
        stored = rounded(patch_embeddings, spec.image_dtype)
        patch_embeddings = to_floats(stored)
    if states is None:
        shared = rng.standard_normal((1, spec.text_dim))
        states = [
            np.concatenate([shared, rng.standard_normal((i % 4, spec.text_dim))])
            for i in range(1 + max(text for row in rows for text in (row.question, *row.texts)))
        ]
    stored_states = [rounded(one, spec.state_dtype) for one in states]
    with CacheWriter(directory, spec) as writer:
        for part in np.array_split(np.arange(len(patch_embeddings)), shards):
            ids = [f"picture {i}" for i in part]
            cls = rounded(patch_embeddings[part].mean(1, dtype=np.float32), spec.state_dtype)
            new = new_images(ids, stored[part], cls)
            add_images(writer, replace(new, patch_scales=None if scales is None else scales[part]))
        add_questions(writer, _questions(stored_states))
        for name, split in splits.items():
            origin = {"dataset": dataset} if dataset else {}
            origin |= {"metric": metric} if metric else {}
            writer.set_split(name, _table(split), left_out=left_out, origin=origin)
    return Made(directory, patch_embeddings, list(map(to_floats, stored_states)), splits)


def rounded(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers as a cache of a dtype stores them."""
    numbers = np.asarray(numbers, dtype=np.float32 if dtype == BFLOAT16 else dtype)
    return round_to_bfloat16(numbers) if dtype == BFLOAT16 else numbers


def _questions(states: Sequence[np.ndarray]) -> NewQuestions:
    """Give each distinct state one row, as prefix sharing does."""
    places: dict[bytes, int] = {}
    kept: list[np.ndarray] = []
    paths: list[list[int]] = []
    for one in states:
        path = []
        for i, state in enumerate(one):
            key = one[: i + 1].tobytes()
            if key not in places:
                places[key] = len(kept)
                kept.append(state)
            path.append(places[key])
        paths.append(path)
    count = len(kept)
    return NewQuestions(
        texts=[f"question {i}?" for i in range(len(states))],
        paths=paths,
        parents=np.full(count, -1, dtype=np.int64),
        tokens=np.arange(count),
        hidden_states=np.stack(kept),
    )


def _name(choice: str | int) -> str:
    return choice if isinstance(choice, str) else f"choice {choice}"


def _table(rows: Sequence[Row]) -> SplitTable:
    chosen, several = any(row.choices for row in rows), any(row.more_images for row in rows)
    return SplitTable(
        question_ids=[100 + i for i in range(len(rows))],
        image_rows=np.array([row.image for row in rows], dtype=np.int64),
        question_rows=np.array([row.question for row in rows], dtype=np.int64),
        answers=[row.answers for row in rows],
        question_types=[row.question_type for row in rows],
        answer_types=[row.answer_type for row in rows],
        groups={
            name: [row.groups.get(name, "") for row in rows]
            for name in dict.fromkeys(name for row in rows for name in row.groups)
        },
        choices=[tuple(map(_name, row.choices)) for row in rows if chosen],
        right_choices=[row.right for row in rows if chosen],
        more_images=[row.more_images for row in rows if several],
        choice_rows=[row.texts for row in rows if chosen],
    )


def make_scenes(
    directory: Path,
    *,
    train: int,
    val: int,
    seed: int = 0,
    spec: CacheSpec | None = None,
    shards: int = 2,
) -> Made:
    """Write a cache whose answers need the picture, the question, and where things belong.

    In each picture a disc and a box lie on two patches, each red or blue; the questions are which
    colour the disc is and which the box. Averaged over its patches, a picture with a red disc and a
    blue box looks like one with a blue disc and a red box.
    """
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.1, (train + val, PATCHES, VISION_DIM))
    features[..., 4] += 3  # what every patch has, so that none is near zero
    colours = [(i % 2, i // 2 % 2) for i in range(train + val)]
    for i, pair in enumerate(colours):
        for thing, patch in enumerate(rng.choice(PATCHES, 2, replace=False)):
            features[i, patch, thing] += 3
            features[i, patch, 2 + pair[thing]] += 3
    states = [np.eye(TEXT_DIM)[[0, 1]], np.eye(TEXT_DIM)[[0, 2, 3]]]
    rows = [
        Row(i, thing, (("red", "blue")[pair[thing]],) * 10, f"{('disc', 'box')[thing]}?", "colour")
        for i, pair in enumerate(colours)
        for thing in (0, 1)
    ]
    return make_cache(
        directory,
        {"train": rows[: 2 * train], "val": rows[2 * train :], "test": [Row(0, 1), Row(1, 0)]},
        patch_embeddings=features,
        states=states,
        spec=spec,
        shards=shards,
    )
