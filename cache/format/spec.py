"""The settings that fix the numbers in a cache."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from frozen_vqa.cache.errors import CacheError, CacheMismatchError
from frozen_vqa.cache.format.bfloat16 import BFLOAT16
from frozen_vqa.cache.typed_json import Json

Dtype = Literal["float16", "bfloat16", "float32", "int8"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

SCALE_DTYPE = np.dtype("float16")


@dataclass(frozen=True)
class CacheSpec:
    """The settings that fix the numbers of a cache: two extractions with equal specs may share one.

    Attributes:
        vision: Settings of the image encoder by name (model, revision, image size, ...), with
            "pool" if its patches are pooled.
        text: Settings of the text encoder by name (model, revision, layer, ...).
        grid: Rows and columns of patches in one picture, as they are stored.
        vision_dim: Size of one patch embedding.
        text_dim: Size of one hidden state.
        dtype: How numbers are stored; one of `DTYPES`. "int8" concerns patch embeddings alone, each
            of which has a scale then (quantise.py); the rest is float16. Hidden states of Llama
            have a few numbers in the hundreds, and eight bits scaled to those lose the others.
            The numpy dtypes below stand for "bfloat16" by its bits (bfloat16.py).
    """

    vision: Mapping[str, Json]
    text: Mapping[str, Json]
    grid: tuple[int, int]
    vision_dim: int
    text_dim: int
    dtype: str = "float16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        sizes = (*self.grid, self.vision_dim, self.text_dim)
        if len(sizes) != 4 or not all(type(n) is int and 0 < n < 2**20 for n in sizes):
            raise CacheError(f"grid and dimensions are {sizes}; four whole numbers are needed")
        if self.dtype not in DTYPES:
            raise CacheError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")

    @property
    def patches(self) -> int:
        """Patch embeddings per picture."""
        return self.grid[0] * self.grid[1]

    @property
    def quantised(self) -> bool:
        """Whether patch embeddings are integers with scales."""
        return self.dtype == "int8"

    @property
    def image_dtype(self) -> np.dtype:
        """Dtype of stored patch embeddings."""
        return BFLOAT16 if self.dtype == "bfloat16" else np.dtype(self.dtype)

    @property
    def state_dtype(self) -> np.dtype:
        """Dtype of stored hidden states and CLS vectors."""
        return np.dtype("float16") if self.quantised else self.image_dtype

    def feature_dtype(self, feature: str) -> np.dtype:
        """Return the dtype of a dataset of features, by its name."""
        return self.image_dtype if feature == "patch_embeddings" else self.state_dtype

    @property
    def image_row_bytes(self) -> int:
        """Bytes of one picture's patch embeddings, their scales, and CLS vector."""
        patch = self.vision_dim * self.image_dtype.itemsize
        patch += SCALE_DTYPE.itemsize if self.quantised else 0
        return self.patches * patch + self.vision_dim * self.state_dtype.itemsize

    @property
    def prefix_row_bytes(self) -> int:
        """Bytes of one hidden state."""
        return self.text_dim * self.state_dtype.itemsize

    def pooled(self, side: int) -> "CacheSpec":
        """Return the spec of these features with squares of patches pooled (pool.py).

        Raises:
            CacheError: if they are pooled already, or the grid does not consist of such squares.
        """
        if side == 1:
            return self
        rows, columns = self.grid
        if "pool" in self.vision:
            raise CacheError(f"its patches are pooled already ({rows} x {columns} are left)")
        if rows % side or columns % side:
            raise CacheError(
                f"{rows} x {columns} patches cannot be pooled by {side} x {side}: both numbers "
                f"must be multiples of {side}"
            )
        vision = {**self.vision, "pool": side}
        return replace(self, vision=vision, grid=(rows // side, columns // side))

    def settings(self) -> dict[str, Json]:
        """Return every setting under one flat name, for comparison and for people."""
        flat: dict[str, Json] = {f"vision {name}": value for name, value in self.vision.items()}
        flat |= {f"text {name}": value for name, value in self.text.items()}
        return flat | {"dtype": self.dtype}

    def require(self, asked: "CacheSpec", where: Path) -> None:
        """Raise `CacheMismatchError`, both values named, unless `asked` equals this spec."""
        mine, theirs = self.settings(), asked.settings()
        differing = [k for k in {**mine, **theirs} if mine.get(k) != theirs.get(k)]
        if differing:
            found = "; ".join(
                f"{name} is {mine.get(name)!r}, asked for {theirs.get(name)!r}"
                for name in differing[:5]
            )
            raise CacheMismatchError(
                f"{where}: this cache was made with other settings: {found}. "
                f"Give the settings that it has, or another --cache."
            )
