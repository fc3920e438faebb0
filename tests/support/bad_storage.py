"""Rows of docs/bad-inputs.md: features or models that do not fit where they are to be."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.pipeline.commands.convert_cache import convert_command
from frozen_vqa.pipeline.encoders.checks import quantise
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ConfigError, ModelError
from frozen_vqa.pipeline.extract.models import preflight
from frozen_vqa.pipeline.extract.models.several import require_squares
from frozen_vqa.pipeline.extract.speed.batch_size import BatchSize
from tests.support.bad_inputs import REFUSED, STORED
from tests.support.bad_inputs import Row as PageRow
from tests.support.caches import PATCHES, VISION_DIM, Row, make_cache, make_spec

OWN: Any = SimpleNamespace(name="mine:Patches", grid=(5, 4))


def _grid(images: Callable[[], ImageEncoder], _: Path) -> PageRow:
    try:
        require_squares(images(), 2)
    except ConfigError as error:
        return REFUSED, str(error)
    return STORED, ""


def _convert(
    stored: str, asked: str, folder: Path, *, pool: int = 1, value: float = 1.0, **spec: Any
) -> PageRow:
    features = np.full((1, PATCHES, VISION_DIM), value) if value != 1.0 else None
    try:
        make_cache(
            folder / "c", {"val": [Row(0, 0)]}, patch_embeddings=features,
            spec=make_spec(dtype=stored, **spec),
        )  # fmt: skip
        convert_command(folder / "c", cache=folder / "new", dtype=asked, pool=pool)
    except CacheError as error:
        return REFUSED, str(error)
    return STORED, ""


POOLED = {"grid": (4, 2), "vision": {"model": "m", "pool": 2}}

STORAGE: dict[str, Callable[[Path], PageRow]] = {
    "`--pool 2`, an odd number of rows and columns": partial(
        _grid, lambda: ImageEncoder("tiny", image_size=70)
    ),
    "`--pool 2`, a single patch": partial(_grid, lambda: ImageEncoder("tiny", image_size=14)),
    "`--pool 2`, an encoder of your own with an odd grid": partial(_grid, lambda: OWN),
    "`convert-cache --pool 2` of an odd grid": partial(_convert, "float16", "int8", pool=2),
    "`convert-cache --pool 2` of pooled patches": partial(
        _convert, "float16", "int8", pool=2, **POOLED
    ),
    "`convert-cache --pool 2` of int8 to float16": partial(
        _convert, "int8", "float16", pool=2, grid=(4, 2)
    ),
    "`convert-cache` to float16 of 100,000": partial(_convert, "float32", "float16", value=1e5),
    "`convert-cache` to int8 of 1e8": partial(_convert, "float32", "int8", value=1e8),
    "`convert-cache` to bfloat16 of 1e20": partial(_convert, "bfloat16", "int8", value=1e20),
    "`convert-cache` of bfloat16 to float16": partial(_convert, "bfloat16", "float16"),
}


def _quantise(kind: Any, missing: str, _: Path) -> PageRow:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantise, "find_spec", lambda name: name != missing or None)
        try:
            _ = TextEncoder("tiny", quantize=kind).weights
        except ModelError as error:
            return REFUSED, str(error)
    return STORED, ""


def _room(free: int, _: Path) -> PageRow:
    encoders: list[list[tuple[Any, int]]] = [
        [(TextEncoder("tiny"), 10)],
        [(ImageEncoder("tiny"), 2048)],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "free_memory", lambda: free)
        try:
            preflight._fit_together(encoders)
        except ModelError as error:
            return REFUSED, str(error)
    return STORED, ""


def _alone(step: str, _: Path) -> PageRow:
    fails: Any = SimpleNamespace(name="m", image_size=224, device="cpu", encodes_trees=False)
    fails.encode = lambda _: [0] * 10**18
    try:
        BatchSize(8).encode(fails, np.zeros((8, 1)))
    except ModelError as error:
        return REFUSED, str(error)
    return STORED, step


MACHINES: dict[str, Callable[[Path], PageRow]] = {
    **{
        f"`--quantize {kind}` without {library}": partial(_quantise, kind, library)
        for kind in quantise.QUANTIZE
        for library in ("bitsandbytes", "accelerate")
    },
    **{
        f"{free / 1e6:g} MB of memory for models of 2.4 and 2.9 MB": partial(_room, free)
        for free in (10**6, 4 * 10**6)
    },
    "memory for not even one picture": partial(_alone, "pictures"),
}
