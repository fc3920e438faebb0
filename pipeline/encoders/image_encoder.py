"""A frozen picture model: pictures to patch embeddings and CLS vectors.

Its family says what is special about it (families/vision.py). The model comes through transformers
and is never trained. Its name and settings are known at once. Its weights are loaded with the first
batch, so a command that finds nothing to encode loads nothing. This module knows nothing of data
sets or caches.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozen_vqa.cache.format.parts import LAST
from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint, computing
from frozen_vqa.pipeline.encoders.checks.layers import (
    every_state,
    one_layer,
    states_of,
    stored_layers,
)
from frozen_vqa.pipeline.encoders.checks.repository import no_revisions
from frozen_vqa.pipeline.encoders.families.vision import VISION
from frozen_vqa.pipeline.encoders.frozen import FrozenEncoder
from frozen_vqa.pipeline.encoders.model_name import full_name
from frozen_vqa.pipeline.encoders.own_model import (
    PictureModel,
    is_own_model,
    make_own_model,
    require_shape,
)
from frozen_vqa.pipeline.encoders.picture_files.levels import Window
from frozen_vqa.pipeline.encoders.preprocess import fit_whole
from frozen_vqa.pipeline.encoders.processor import load_processor
from frozen_vqa.pipeline.encoders.reading import Reading, sides_of, size_of
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.plugins import running

Fit = Literal["whole", "crop"]
MOST_PATCHES = 128
"""Patches along a side; attention compares each pair of all patches. DINOv2 was trained on 37."""


class ImageEncoder(FrozenEncoder):
    """A frozen model of one of the families, or a `PictureModel` of the user's own.

    `sides` are the height and the width in pixels of what it sees, `image_size` is how a cache
    records them, and `grid` has the rows and columns of patches.

    Args:
        model: A name on the Hub, a local folder, "tiny", or "module:Name" that `trust` knows.
        revision: Branch, tag or commit of a model on the Hub; None for the main branch.
        layer: A layer, or several whose features lie side by side; see `checks/layers.py`.
        image_size: Side in pixels of the square that the model sees, or height and width, such as
            "336x448"; None for the processor's own.
        compute_dtype: The floating-point type to compute in, or several: `extract` then takes the
            first one whose numbers are finite.
        local_only: Whether to take a model of the Hub from this machine alone.
        fit: "whole" resizes the whole picture, "crop" is the processor's resize and centre crop.
        window: The values that become black and white in grey pictures of more than 8 bits.
        reduce_jpegs: Whether large JPEGs are decoded at a half, a quarter or an eighth of their
            size, which may not be less than the model needs.

    The caller gives `reading`, which both of these are in, to `load_rgb`.

    Raises:
        ModelError: if the model cannot be loaded, is of another kind, or the size does not fit.
        PluginError: if code of the user's own cannot be used, or the user has not named it.
    """

    def __new__(cls, model: str, **_: Any) -> "ImageEncoder":
        """Return one of the class that the name means."""
        return super().__new__(OwnImageEncoder if is_own_model(model) else cls)

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        layer: int | Sequence[int] = LAST,
        image_size: int | str | None = None,
        fit: Fit = "whole",
        device: torch.device | str = "cpu",
        compute_dtype: torch.dtype | Sequence[torch.dtype] = torch.float32,
        local_only: bool = False,
        window: Window | None = None,
        reduce_jpegs: bool = False,
    ) -> None:
        self.name = model if model == TINY else full_name(model)
        self.fit = fit
        self.device = torch.device(device)
        several = [compute_dtype] if isinstance(compute_dtype, torch.dtype) else compute_dtype
        self.dtypes: tuple[torch.dtype, ...] = tuple(several)
        self.compute_dtype = self.dtypes[0]
        place = tiny_checkpoint("vision") if model == TINY else model
        self.checkpoint = Checkpoint(place, revision=revision, local_only=local_only)
        self.config, self.family = self.checkpoint.config(VISION)
        self.processor = load_processor(self.checkpoint, model)
        if fit == "crop":
            self.processor.require_square()
        own = self.processor.side or self.config.image_size
        self.sides = sides_of(own if image_size is None else image_size)
        self.image_size = size_of(self.sides)
        self.grid = self._grid(own)
        self.depth: int = self.config.num_hidden_layers
        self.layers = stored_layers(layer, self.depth, model, "--vision-layer")
        self.dim: int = self.config.hidden_size * len(self.layers)
        height, width = self.sides
        if fit == "crop" and height != width:
            raise ModelError(
                f"image size {self.image_size} is not square, and --fit crop cuts a square out; "
                f"use --fit whole, or one number for --image-size"
            )
        least = max(self.sides) if fit == "whole" else self.processor.least_side(height)
        self.reading = Reading(window, least if reduce_jpegs else None)

    def _grid(self, own: int) -> tuple[int, int]:
        """Return the rows and columns of patches, or raise `ModelError` if the size has none.

        `own` is the size that the model has without being asked for another. It may have a rest,
        which the model does not see.
        """
        patch: int = self.config.patch_size
        sides = self.sides
        if min(sides) < patch or (sides != (own, own) and any(side % patch for side in sides)):
            near = size_of(_each(sides, lambda side: max(1, round(side / patch)) * patch))
            raise ModelError(
                f"image size {self.image_size} is not a multiple of {self.name}'s patch size "
                f"{patch}; use --image-size {near}"
            )
        rows, columns = grid = _each(sides, lambda side: side // patch)
        if max(grid) > MOST_PATCHES:
            raise ModelError(
                f"image size {self.image_size} is {rows:,} by {columns:,} patches, the limit is "
                f"{MOST_PATCHES} by {MOST_PATCHES}; use a smaller --image-size, such as "
                f"{16 * patch}"
            )
        return grid

    def settings_at(self, layer: int) -> dict[str, Any]:
        return {
            "model": self.name,
            "revision": self.checkpoint.revision,
            "image size": self.image_size,
            "fit": self.fit,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
            **self.processor.settings(whole=self.fit == "whole", size=self.sides[0]),
            **self.reading.settings(),
            **({"layer": layer} if layer != LAST else {}),
        }

    @cached_property
    def weights(self) -> torch.nn.Module:
        """The frozen model, loaded on first use."""
        return self.checkpoint.load(self.config, self.compute_dtype, self.device)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Fit one RGB picture to the model: (height, width, 3) uint8."""
        if self.fit == "whole":
            return fit_whole(image, self.sides, resample=self.processor.resample)
        return self.processor.fit(image, self.sides[0])

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Encode pixels, (images, height, width, 3) uint8.

        Returns:
            Patch embeddings (images, patches, dim) in row-major order and CLS (images, dim), both
            of all layers side by side and on the device. Where a model has no CLS, the mean of the
            patch embeddings stands for it.
        """
        x = self.normalised(pixels).to(self.compute_dtype)
        weights, family = self.weights, self.family
        with computing(self.name):
            output = weights(
                pixel_values=x, output_hidden_states=every_state(self.layers), **family.run
            )
            norm = weights.get_submodule(family.norm) if family.norm else None
            states = states_of(output, self.layers, norm)
        patches = states[:, family.tokens_before_patches(self.config) :]
        return patches, states[:, 0] if family.cls else patches.mean(1)

    def normalised(self, pixels: np.ndarray) -> Tensor:
        """Rescale and normalise pixels: (images, 3, height, width), on the device."""
        # From pinned memory the host goes on at once; the caller keeps the pixels as they are.
        gpu = self.device.type == "cuda"
        x = torch.from_numpy(pixels).to(self.device, non_blocking=gpu)
        mean, std = self._mean_and_std
        return (x.permute(0, 3, 1, 2).float() * self.processor.factor - mean) / std

    @cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Both (3, 1, 1) on the device, where no batch has to wait for them."""
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (self.processor.mean, self.processor.std)
        )
        return mean, std


class OwnImageEncoder(ImageEncoder):
    """A `PictureModel` of the user's own; `ImageEncoder("module:Name")` makes it."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        layer: int | Sequence[int] = LAST,
        image_size: int | str | None = None,
        fit: Fit = "whole",
        device: torch.device | str = "cpu",
        compute_dtype: torch.dtype = torch.float32,
        local_only: bool = False,
        window: Window | None = None,
        reduce_jpegs: bool = False,
    ) -> None:
        if revision:
            raise no_revisions(model)
        one_layer(layer, model, "patch embeddings", "--vision-layer")
        self.name, self.fit, self.device = model, fit, torch.device(device)
        self.compute_dtype = compute_dtype
        self._own: PictureModel = make_own_model(
            model, "--vision-model", self.device, compute_dtype, ("image_size", "grid", "dim")
        )
        side, self.grid, self.dim = self._own.image_size, self._own.grid, self._own.dim
        self.sides, self.image_size = (side, side), side
        self.reading = Reading(window, side if reduce_jpegs else None)
        if image_size not in (None, side, str(side)) or fit != "whole":
            raise ModelError(
                f"{model} takes whole pictures of {side} pixels; leave out --image-size and --fit"
            )
        self.encode(np.zeros((1, side, side, 3), np.uint8))  # or raise now

    def moved_to(self) -> str | None:
        return None

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "revision": self._own.revision,
            "image size": self.image_size,
            "fit": self.fit,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
            **self.reading.settings(),
        }

    def pixels(self, image: Image.Image) -> np.ndarray:
        return fit_whole(image, self.sides, resample=Image.Resampling.BICUBIC)

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Encode pixels as `ImageEncoder` does; the mean of the patches stands for CLS."""
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2) / 255
        with running(self.name, "its encode"):
            patches = self._own.encode(x.to(self.compute_dtype))
        require_shape(self.name, patches, (len(pixels), self.grid[0] * self.grid[1], self.dim))
        return patches, patches.mean(1)


def _each(sides: tuple[int, int], change: Callable[[int], int]) -> tuple[int, int]:
    height, width = sides
    return change(height), change(width)
