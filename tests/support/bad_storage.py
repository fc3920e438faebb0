"""Rows of docs/bad-inputs.md: features that do not fit how they are to be stored."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.pipeline.commands.convert_cache import convert_command
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.extract.feature_encoder import require_squares
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
