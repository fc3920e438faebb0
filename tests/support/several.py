"""Caches whose questions have choices, or are about two pictures, and can be learned."""

from pathlib import Path

import numpy as np

from tests.support.caches import PATCHES, TEXT_DIM, VISION_DIM, Made, Row, make_cache

WORDS = np.eye(TEXT_DIM)


def make_pictures(colours: np.ndarray, seed: int) -> np.ndarray:
    """Return pictures with one patch of a colour: (pictures, patches, vision_dim)."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.1, (len(colours), PATCHES, VISION_DIM))
    features[..., 4] += 3  # what every patch has, so that none is near zero
    features[np.arange(len(colours)), rng.integers(0, PATCHES, len(colours)), colours] += 3
    return features


def make_choices(directory: Path, *, train: int = 200, val: int = 100, seed: int = 0) -> Made:
    """Write a cache that asks for the colour of a picture, among two to four choices.

    "test" is "val" without the right choices.
    """
    rng = np.random.default_rng(seed)
    colours = np.arange(train + val) % 4
    states = [WORDS[[0, 1]], *(WORDS[[0, 1, 2 + colour]] for colour in range(4))]
    rows = []
    for image, colour in enumerate(colours.tolist()):
        others = rng.permutation([one for one in range(4) if one != colour])
        shown = rng.permutation([colour, *others[: 1 + image % 3]])
        right = shown.tolist().index(colour)
        choices = tuple(1 + one for one in shown.tolist())
        rows.append(Row(image, 0, choices=choices, right=right, answer_type=f"{len(choices)}"))
    unknown = [Row(row.image, 0, choices=row.choices) for row in rows[train:]]
    return make_cache(
        directory,
        {"train": rows[:train], "val": rows[train:], "test": unknown},
        patch_embeddings=make_pictures(colours, seed),
        states=states,
    )


def make_pairs(directory: Path, *, train: int = 120, val: int = 40, seed: int = 0) -> Made:
    """Write a cache that asks of two pictures: are both red, is one of them, is the first?"""
    pictures = 2 * (train + val)
    red = np.random.default_rng(seed).integers(0, 2, pictures)
    rows = []
    for one in range(0, pictures, 2):
        first, second = red[one : one + 2].tolist()
        right = (first and second, first != second, first)
        for text, answer in enumerate(right):
            given = ("yes" if answer else "no",)
            rows.append(Row(one, text, given, answer_type=f"{text}", more_images=(one + 1,)))
    return make_cache(
        directory,
        {"train": rows[: 3 * train], "val": rows[3 * train :]},
        patch_embeddings=make_pictures(red, seed),
        states=[WORDS[[0, 1 + text]] for text in range(3)],
    )
