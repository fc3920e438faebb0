"""Caches that a stranger made: with digests that fit numbers which extract-features refuses."""

from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache.format import shards
from tests.support.caches import Made, make_cache, make_spec

BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "3e38": 3e38}
PLACES = ("patch_embeddings", "hidden_states")


def forge_cache(
    directory: Path, scenes: Made, *, dtype: str, place: str, value: float, row: int = 3
) -> Made:
    """Copy a cache with one bad number: in picture `row`, or in the last token of question 1."""
    features = scenes.patch_embeddings.astype(np.float32)
    states = [state.astype(np.float32) for state in scenes.states]
    if place == "patch_embeddings":
        features[row, 1, 2] = value
    else:
        states[1][-1, 0] = value
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore", invalid="ignore"):
        patch.setattr(shards, "_largest", lambda *_: 1.0)  # which refuses what is not finite
        return make_cache(
            directory,
            scenes.splits,
            patch_embeddings=features,
            states=states,
            spec=make_spec(dtype=dtype),
        )
