"""The encoders of one cache: of pictures there may be several, of each of them several layers.

Each picture is decoded once, for all of them. What they give lies side by side in the cache, by
channel, so all of them have the same grid of patches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from frozen_vqa.cache import CacheSpec
from frozen_vqa.cache.format.parts import LAST, Part
from frozen_vqa.pipeline.encoders.reading import size_of
from frozen_vqa.pipeline.errors import ConfigError, ModelError

if TYPE_CHECKING:  # these import torch, and a command looks at pictures before it does
    from torch import Tensor

    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder

T = TypeVar("T")


class ImageEncoders:
    """Several `ImageEncoder`s that are used as one; `each` has them.

    Raises:
        ModelError: if their grids differ, or one is named twice.
    """

    def __init__(self, each: "Sequence[ImageEncoder]") -> None:
        first, self.each = each[0], tuple(each)
        names = [encoder.name for encoder in each]
        for encoder in each:
            if names.count(encoder.name) > 1:
                raise ModelError(
                    f"--vision-model {encoder.name} is given twice; give each model once, and "
                    f"--vision-layer for more of its layers"
                )
            if encoder.grid != first.grid:
                raise ModelError(
                    f"{first.name} gives {_spell(first)} and {encoder.name} {_spell(encoder)}, but "
                    f"all encoders of a cache share one grid; {_advise(each)}"
                )
        self.name, self.device, self.grid = " and ".join(names), first.device, first.grid
        self.image_size = " and ".join(str(encoder.image_size) for encoder in each)
        self.dim = sum(encoder.dim for encoder in each)
        # A JPEG that is reduced when it is decoded has to be large enough for all.
        sides = [encoder.reading.jpeg_side for encoder in each if encoder.reading.jpeg_side]
        self.reading = replace(first.reading, jpeg_side=max(sides, default=None))
        for encoder in each:
            encoder.reading = self.reading
        any_picture = Image.new("RGB", (4 * first.grid[1], 4 * first.grid[0]))
        self._shapes = [encoder.pixels(any_picture).shape for encoder in each]
        self._places = [*pairwise(accumulate(map(prod, self._shapes), initial=0))]

    def unload(self) -> None:
        """Free the weights of all models."""
        for encoder in self.each:
            encoder.unload()

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Fit one RGB picture to each model: all their pixels, one after the other, uint8."""
        return np.concatenate([encoder.pixels(image).reshape(-1) for encoder in self.each])

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the first model sees of a picture: (rows, columns, 3) uint8."""
        return next(self._split(pixels[np.newaxis]))[0]

    def encode(self, pixels: np.ndarray) -> "tuple[Tensor, Tensor]":
        """Encode pixels of some pictures: patch embeddings and CLS, those of all models beside."""
        import torch

        each = zip(self.each, self._split(pixels), strict=True)
        patches, cls = zip(*(encoder.encode(views) for encoder, views in each), strict=True)
        return torch.cat(patches, -1), torch.cat(cls, -1)

    def _split(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        for (start, end), shape in zip(self._places, self._shapes, strict=True):
            yield np.ascontiguousarray(pixels[:, start:end]).reshape(-1, *shape)


def join_encoders(each: "Sequence[ImageEncoder]") -> Any:
    """Return the encoders as one; a single one is itself."""
    return each[0] if len(each) == 1 else ImageEncoders(each)


def each_of(encoder: Any) -> Sequence[Any]:
    """Return the encoders that are used as one; a single one is itself."""
    found: Sequence[Any] = getattr(encoder, "each", (encoder,))
    return found


def shown(encoder: Any, pixels: np.ndarray) -> np.ndarray:
    """Return what the first model sees of a picture: (rows, columns, 3) uint8."""
    return encoder.shown(pixels) if isinstance(encoder, ImageEncoders) else pixels


def parts_of(encoder: Any) -> list[Part]:
    """Return the parts of what an encoder gives, or several that are used as one."""
    found = []
    for one in each_of(encoder):
        layers = getattr(one, "layers", (LAST,))
        every = [one.settings] if len(layers) == 1 else map(one.settings_at, layers)
        found += [Part(settings, one.dim // len(layers)) for settings in every]
    return found


def cache_spec(
    images: "ImageEncoder", text: "TextEncoder", dtype: str = "float16", pool: int = 1
) -> CacheSpec:
    """Return the spec of a cache made by these encoders; raise `ConfigError` for odd grids."""
    require_squares(images, pool)
    vision, words = parts_of(images), parts_of(text)
    several = [one for one in (*each_of(images), text) if len(getattr(one, "layers", ())) > 1]
    return CacheSpec(
        vision=vision[0].settings,
        text=words[0].settings,
        grid=images.grid,
        vision_dim=images.dim,
        text_dim=text.dim,
        dtype=dtype,
        more_vision=tuple(vision[1:]),
        more_text=tuple(words[1:]),
        layers={one.name: one.depth for one in several},
    ).pooled(pool)


def require_squares(images: "ImageEncoder", pool: int) -> None:
    """Raise `ConfigError` unless the patches of a picture make squares of `pool` by `pool`."""
    rows, columns = images.grid
    if not (rows % pool or columns % pool):
        return
    advice = "leave out --pool"
    if patch := getattr(getattr(images, "config", None), "patch_size", 0):
        fitting = [
            [patch * max(pool, (side + more) // pool * pool) for side in (rows, columns)]
            for more in (0, pool - 1)
        ]
        sizes = [str(h) if rows == columns else f"{h}x{w}" for h, w in fitting]
        advice = f"give --image-size {' or '.join(dict.fromkeys(sizes))}"
    raise ConfigError(
        f"{images.name} has {rows} x {columns} patches of a picture, and --pool {pool} needs an "
        f"even number of rows and of columns; {advice}"
    )


def for_each(option: str, values: Sequence[T], models: Sequence[str]) -> list[T | None]:
    """Return what an option says of each model; None where it is empty or not given at all.

    Raises `ModelError` if it is given for some of them only.
    """
    if values and len(values) != len(models):
        empty = f". An empty one ({option} '') leaves a model its default" * ("revision" in option)
        raise ModelError(
            f"{len(models)} --vision-model, and {len(values)} {option}; give one for each of them, "
            f"in their order, or none{empty}"
        )
    return [value or None for value in values] or [None] * len(models)


def _spell(encoder: "ImageEncoder") -> str:
    rows, columns = encoder.grid
    return f"{rows} x {columns} patches from {encoder.image_size} pixels"


def _advise(each: "Sequence[ImageEncoder]") -> str:
    """Return the sizes that give all models the grid of the first."""
    sizes = []
    for encoder in each:
        (height, width), (rows, columns) = encoder.sides, encoder.grid
        wanted = each[0].grid
        size = size_of((height // rows * wanted[0], width // columns * wanted[1]))
        sizes.append(f"--image-size {size}")
    return f"give {' '.join(sizes)}, in the order of the models"
