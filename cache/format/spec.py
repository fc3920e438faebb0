"""The settings that fix the numbers in a cache."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np

from frozen_vqa.cache.errors import CacheError, CacheMismatchError
from frozen_vqa.cache.format.bfloat16 import BFLOAT16
from frozen_vqa.cache.format.parts import MOST, Part, labels
from frozen_vqa.cache.typed_json import Json

Dtype = Literal["float16", "bfloat16", "float32", "int8"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

SCALE_DTYPE = np.dtype("float16")


@dataclass(frozen=True)
class CacheSpec:
    """The settings that fix the numbers of a cache: two extractions with equal specs may share one.

    Attributes:
        vision: Settings of the image encoder by name (model, revision, image size, ...), with
            "pool" if its patches are pooled; of the first part of a patch embedding if it has
            several (parts.py).
        text: Settings of the text encoder by name (model, revision, layer, ...), likewise.
        grid: Rows and columns of patches in one picture, as they are stored.
        vision_dim: Size of one patch embedding, with all its parts.
        text_dim: Size of one hidden state, with all its parts.
        dtype: How numbers are stored; one of `DTYPES`. "int8" concerns patch embeddings alone, each
            of which has a scale then (quantise.py); the rest is float16. Hidden states of Llama
            have a few numbers in the hundreds, and eight bits scaled to those lose the others.
            The numpy dtypes below stand for "bfloat16" by its bits (bfloat16.py).
        more_vision, more_text: The parts after the first one.
        layers: The number of layers of models of which there are several parts.
    """

    vision: Mapping[str, Json]
    text: Mapping[str, Json]
    grid: tuple[int, int]
    vision_dim: int
    text_dim: int
    dtype: str = "float16"
    more_vision: tuple[Part, ...] = ()
    more_text: tuple[Part, ...] = ()
    layers: Mapping[str, Annotated[int, (1, 2**16)]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        sizes = (*self.grid, self.vision_dim, self.text_dim)
        if len(sizes) != 4 or not all(type(n) is int and 0 < n < 2**20 for n in sizes):
            raise CacheError(f"grid and dimensions are {sizes}; four whole numbers are needed")
        for name, parts in (("vision", self.vision_parts), ("text", self.text_parts)):
            if len(parts) > MOST:
                raise CacheError(f"{name} has {len(parts)} parts; at most {MOST} are read")
            dims = [part.dim for part in parts]
            if not all(type(n) is int and 0 < n < 2**20 for n in dims):
                raise CacheError(
                    f"the parts of {name} have {', '.join(map(str, dims))} numbers; whole numbers "
                    f"above 0 are needed that add up to {name}_dim"
                )
        if self.dtype not in DTYPES:
            raise CacheError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")

    @property
    def vision_parts(self) -> tuple[Part, ...]:
        """The parts of a patch embedding, in the order of its channels."""
        return _parts(self.vision, self.vision_dim, self.more_vision)

    @property
    def vision_dims(self) -> list[int]:
        """The size of each part of a patch embedding."""
        return [part.dim for part in self.vision_parts]

    @property
    def text_parts(self) -> tuple[Part, ...]:
        """The parts of a hidden state, in the order of its channels."""
        return _parts(self.text, self.text_dim, self.more_text)

    def take(self, vision: Sequence[int], text: Sequence[int]) -> "CacheSpec":
        """Return the spec of some parts alone."""
        eyes, words = (
            [p[i] for i in chosen]
            for p, chosen in ((self.vision_parts, vision), (self.text_parts, text))
        )
        return replace(
            self,
            vision=eyes[0].settings,
            vision_dim=sum(part.dim for part in eyes),
            more_vision=tuple(eyes[1:]),
            text=words[0].settings,
            text_dim=sum(part.dim for part in words),
            more_text=tuple(words[1:]),
            layers={},
        )

    @property
    def shapes(self) -> dict[str, Any]:
        """What a head has to know of the features; sizes of parts only where there are several."""
        dims = self.vision_dims, [part.dim for part in self.text_parts]
        vision, text = (tuple(several) if len(several) > 1 else () for several in dims)
        return {
            "vision_dim": self.vision_dim,
            "text_dim": self.text_dim,
            "grid": self.grid,
            "vision_parts": vision,
            "text_parts": text,
        }

    @property
    def scales(self) -> tuple[int, ...]:
        """Shape of the scales of one picture's integers: of each patch, and of each of its parts
        if it has several."""
        parts = len(self.more_vision) + 1
        return (self.patches,) if parts == 1 else (self.patches, parts)

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
        numbers = self.patches * self.vision_dim * self.image_dtype.itemsize
        numbers += math.prod(self.scales) * SCALE_DTYPE.itemsize if self.quantised else 0
        return numbers + self.vision_dim * self.state_dtype.itemsize

    @property
    def prefix_row_bytes(self) -> int:
        """Bytes of one hidden state."""
        return self.text_dim * self.state_dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """Return what cache.json has; without what only caches of several parts need."""
        several = ("more_vision", "more_text", "layers")
        return {name: value for name, value in vars(self).items() if value or name not in several}

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
        first, *more = (
            replace(part, settings={**part.settings, "pool": side}) for part in self.vision_parts
        )
        grid = (rows // side, columns // side)
        return replace(self, vision=first.settings, more_vision=tuple(more), grid=grid)

    def settings(self) -> dict[str, Json]:
        """Return every setting under one flat name, for comparison and for people."""
        flat: dict[str, Json] = {}
        for side, parts in (("vision", self.vision_parts), ("text", self.text_parts)):
            for number, part in enumerate(parts, start=1):
                which = side if number == 1 else f"{side} {number}"
                flat |= {f"{which} {name}": value for name, value in part.settings.items()}
        return flat | {"dtype": self.dtype}

    def require(self, asked: "CacheSpec", where: Path) -> None:
        """Raise `CacheMismatchError`, both values named, unless `asked` equals this spec."""
        for side, ours, others in (
            ("vision", self.vision_parts, asked.vision_parts),
            ("text", self.text_parts, asked.text_parts),
        ):
            if len(ours) != len(others):
                raise CacheMismatchError(
                    f"{where}: this cache was made of {' and '.join(labels(ours))} ({side}), asked "
                    f"for {' and '.join(labels(others))}. Give the models and layers that it has, "
                    f"or another --cache."
                )
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


def _parts(first: Mapping[str, Json], dim: int, more: tuple[Part, ...]) -> tuple[Part, ...]:
    return (Part(first, dim - sum(part.dim for part in more)), *more)
