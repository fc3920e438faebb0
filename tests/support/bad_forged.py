"""Rows of docs/bad-inputs.md: files that a stranger made, with digests that fit them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from frozen_vqa.cache import CacheDamagedError, FeatureCache
from frozen_vqa.cache.format import shards
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.weights import CURRENT
from tests.support.bad_inputs import REFUSED, STORED, Row
from tests.support.caches import Row as Question
from tests.support.caches import make_cache, make_spec
from tests.support.forged_caches import BAD
from tests.support.forged_runs import WEIGHTS, Forgery, forge
from tests.support.heads import make_run

SPLITS = {"train": [Question(0, 0, ("red",)), Question(1, 1, ("red",))]}


def _weights(change: Forgery, folder: Path) -> Row:
    make_run(make_cache(folder / "cache", SPLITS), folder / "run")
    forge(folder / "run" / CURRENT, change)
    try:
        load_run(folder / "run", torch.device("cpu"))
    except RunError as error:
        return REFUSED, str(error)
    return STORED, ""


def _feature(dtype: str, value: float, folder: Path) -> Row:
    spec = make_spec(dtype=dtype)
    features = np.ones((2, spec.patches, spec.vision_dim), np.float32)
    features[1, 2, 3] = value
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(shards, "_largest", lambda *_: 1.0)
        made = make_cache(folder / "cache", SPLITS, patch_embeddings=features, spec=spec)
    cache = FeatureCache(made.directory)
    try:
        cache.require_usable(np.arange(2), np.arange(2))
    except CacheDamagedError as error:
        return REFUSED, str(error)
    return STORED, ""


FORGED: dict[str, Callable[[Path], Row]] = {
    **{f"weights: {name}": partial(_weights, change) for name, change in WEIGHTS.items()},
    **{
        f"features in {dtype}: {name}": partial(_feature, dtype, value)
        for dtype in DTYPES
        for name, value in BAD.items()
    },
}
