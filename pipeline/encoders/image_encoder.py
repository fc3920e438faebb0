"""DINOv2, with or without registers: pictures to patch embeddings and CLS vectors.

The model comes through transformers and is never trained. Its name and settings are known at once.
Its weights are loaded with the first batch, so a command that finds nothing to encode loads
nothing. This module knows nothing of data sets or caches.
"""

from collections.abc import Sequence
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
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.plugins import running

Fit = Literal["whole", "crop"]
MOST_PATCHES = 128
"""Patches along a side; attention compares each pair of all patches. DINOv2 was trained on 37."""

MODEL_TYPES = ("dinov2", "dinov2_with_registers")


class ImageEncoder:
    """A frozen DINOv2, or a `PictureModel` of the user's own.

    Args:
        model: A name on the Hub, a local folder, "tiny", or "module:Name" that `trust` knows.
        revision: Branch, tag or commit of a model on the Hub; None for the main branch.
        layer: A layer, or several whose features lie side by side; see `checks/layers.py`.
        image_size: Side in pixels of the square that the model sees; None for the processor's own.
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
        image_size: int | None = None,
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
        self.config = self.checkpoint.config(MODEL_TYPES)
        self.processor = load_processor(self.checkpoint, model)
        if fit == "crop":
            self.processor.require_square()
        own = self.processor.side or self.config.image_size
        self.image_size = own if image_size is None else image_size
        patch = self.config.patch_size
        if self.image_size < patch or self.image_size % patch:
            near = max(1, round(self.image_size / patch)) * patch
            raise ModelError(
                f"image size {self.image_size} is not a multiple of {model}'s patch size {patch}; "
                f"use --image-size {near}"
            )
        side = self.image_size // patch
        if side > MOST_PATCHES:
            raise ModelError(
                f"image size {self.image_size} is {side:,} by {side:,} patches, the limit is "
                f"{MOST_PATCHES} by {MOST_PATCHES}; use a smaller --image-size, such as "
                f"{16 * patch}"
            )
        self.grid = (side, side)
        self.depth: int = self.config.num_hidden_layers
        self.layers = stored_layers(layer, self.depth, model, "--vision-layer")
        self.dim: int = self.config.hidden_size * len(self.layers)
        least = self.image_size if fit == "whole" else self.processor.least_side(self.image_size)
        self.reading = Reading(window, least if reduce_jpegs else None)

    def moved_to(self) -> str | None:
        """Return the commit that the model's main branch on the Hub is now, if it is another."""
        return self.checkpoint.moved_to()

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines this encoder's numbers; of several layers, those of the first.

        They are for the cache's spec.
        """
        return self.settings_at(self.layers[0])

    def settings_at(self, layer: int) -> dict[str, Any]:
        """Return the settings that `settings` would be if only this layer were stored."""
        return {
            "model": self.name,
            "revision": self.checkpoint.revision,
            "image size": self.image_size,
            "fit": self.fit,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
            **self.processor.settings(whole=self.fit == "whole"),
            **self.reading.settings(),
            **({"layer": layer} if layer != LAST else {}),
        }

    @cached_property
    def weights(self) -> torch.nn.Module:
        """The frozen model, loaded on first use."""
        return self.checkpoint.load(self.config, self.compute_dtype, self.device)

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute in another type; the weights are loaded in it with the next batch."""
        if dtype != self.compute_dtype:
            self.compute_dtype = dtype
            vars(self).pop("weights", None)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Fit one RGB picture to the model: (image_size, image_size, 3) uint8."""
        if self.fit == "whole":
            return fit_whole(image, self.image_size, resample=self.processor.resample)
        return self.processor.fit(image, self.image_size)

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Encode pixels, (images, image_size, image_size, 3) uint8.

        Returns:
            Patch embeddings (images, patches, dim) in row-major order and CLS (images, dim), both
            of all layers side by side and on the device.
        """
        x = self.normalised(pixels)
        weights = self.weights
        with computing(self.name):
            output = weights(
                pixel_values=x.to(self.compute_dtype), output_hidden_states=every_state(self.layers)
            )
            states = states_of(output, self.layers)
        # CLS comes first, then the registers of models that have them, then the patches.
        prefix = 1 + getattr(self.config, "num_register_tokens", 0)
        return states[:, prefix:], states[:, 0]

    def normalised(self, pixels: np.ndarray) -> Tensor:
        """Rescale and normalise pixels: (images, 3, image_size, image_size), on the device."""
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
        image_size: int | None = None,
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
        self.image_size, self.grid = self._own.image_size, self._own.grid
        self.dim = self._own.dim
        self.reading = Reading(window, self.image_size if reduce_jpegs else None)
        if image_size not in (None, self.image_size) or fit != "whole":
            raise ModelError(
                f"{model} takes whole pictures of {self.image_size} pixels; leave out --image-size "
                f"and --fit"
            )
        self.encode(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))  # or raise now

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
        return fit_whole(image, self.image_size, resample=Image.Resampling.BICUBIC)

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Encode pixels as `ImageEncoder` does; the mean of the patches stands for CLS."""
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2) / 255
        with running(self.name, "its encode"):
            patches = self._own.encode(x.to(self.compute_dtype))
        require_shape(self.name, patches, (len(pixels), self.grid[0] * self.grid[1], self.dim))
        return patches, patches.mean(1)
