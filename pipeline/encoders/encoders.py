"""The two frozen encoders, loaded through transformers and never trained.

    ImageEncoder   DINOv2, with or without registers: pictures -> patch embeddings and CLS
    TextEncoder    Llama 3, 3.1, 3.2: equal-length token lists -> hidden states

Names and settings are known at once; weights are loaded when the first batch needs them, so that
a command that finds nothing to encode loads nothing. Knows nothing of data sets or caches.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint, full_name, loading
from frozen_vqa.pipeline.encoders.preprocess import fit_crop, fit_whole
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError

Fit = Literal["whole", "crop"]
VISION_MODEL_TYPES = ("dinov2", "dinov2_with_registers")
TEXT_MODEL_TYPES = ("llama",)


class ImageEncoder:
    """DINOv2: pictures to patch embeddings.

    Args:
        model: A name on the Hub, a local folder, or "tiny".
        image_size: Side in pixels of what the model sees; None for the processor's own.
        fit: "whole" resizes the whole picture, "crop" is the processor's resize and centre crop.
        device: Where to run.
        compute_dtype: In what to run.

    Raises:
        ModelError: if the model cannot be had, is of another kind, or the size does not fit.
    """

    def __init__(
        self,
        model: str,
        *,
        image_size: int | None = None,
        fit: Fit = "whole",
        device: torch.device | str = "cpu",
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        from transformers import AutoImageProcessor

        self.name = model if model == TINY else full_name(model)
        self.fit = fit
        self.device = torch.device(device)
        self.compute_dtype = compute_dtype
        self.checkpoint = Checkpoint(tiny_checkpoint("vision") if model == TINY else model)
        self.config = self.checkpoint.config(VISION_MODEL_TYPES)
        with loading(model):
            # PIL asked for by name: with torchvision installed the default resizes differently.
            self.processor = AutoImageProcessor.from_pretrained(
                self.checkpoint.place, revision=self.checkpoint.commit, backend="pil"
            )
        self.image_size = self._own_size if image_size is None else image_size
        patch = self.config.patch_size
        if self.image_size < patch or self.image_size % patch:
            near = max(1, round(self.image_size / patch)) * patch
            raise ModelError(
                f"image size {self.image_size} is not a multiple of {model}'s patch size {patch}; "
                f"use --image-size {near}"
            )
        side = self.image_size // patch
        self.grid = (side, side)
        self.dim: int = self.config.hidden_size

    @property
    def _own_size(self) -> int:
        """Side in pixels of what the processor gives when it is left alone."""
        sizes = self.processor.crop_size, self.processor.size
        sides = [size["height"] for size in sizes if size and size.get("height")]
        return sides[0] if sides else self.config.image_size

    @property
    def settings(self) -> dict[str, Any]:
        """What fixes the numbers that this encoder gives, for the cache's spec."""
        return {
            "model": self.name,
            "revision": self.checkpoint.revision,
            "image size": self.image_size,
            "fit": self.fit,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
            "mean": list(self.processor.image_mean),
            "std": list(self.processor.image_std),
            "resample": int(self.processor.resample),
        }

    @cached_property
    def weights(self) -> torch.nn.Module:
        """The frozen model, loaded on first use."""
        return self.checkpoint.load(self.config, self.compute_dtype, self.device)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Fit one RGB picture to the model: (image_size, image_size, 3) uint8."""
        resample = Image.Resampling(self.processor.resample)
        if self.fit == "whole":
            return fit_whole(image, self.image_size, resample=resample)
        own = self.processor.size.get("shortest_edge") or self._own_size
        edge = round(own * self.image_size / self._own_size)
        return fit_crop(image, size=self.image_size, shortest_edge=edge, resample=resample)

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            pixels: (images, image_size, image_size, 3) uint8, from `pixels`.

        Returns:
            Patch embeddings (images, patches, dim) in row-major order and CLS (images, dim), after
            the model's final norm, on the device.
        """
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (self.processor.image_mean, self.processor.image_std)
        )
        x = (x * self.processor.rescale_factor - mean) / std
        states = self.weights(pixel_values=x.to(self.compute_dtype)).last_hidden_state
        # CLS first, then the registers of models that have them, then the patches.
        prefix = 1 + getattr(self.config, "num_register_tokens", 0)
        return states[:, prefix:], states[:, 0]


class TextEncoder:
    """Llama: questions to hidden states.

    `max_tokens` is the length of the longest question that the model was made for, BOS included.

    Args:
        model: A name on the Hub, a local folder, or "tiny".
        layer: Index into the model's hidden states; -1 is the last, after the final norm.
        device: Where to run.
        compute_dtype: In what to run.

    Raises:
        ModelError: if the model cannot be had, is of another kind, or has no such layer.
    """

    def __init__(
        self,
        model: str,
        *,
        layer: int = -1,
        device: torch.device | str = "cpu",
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        from transformers import AutoTokenizer

        self.name = model if model == TINY else full_name(model)
        self.layer = layer
        self.device = torch.device(device)
        self.compute_dtype = compute_dtype
        self.checkpoint = Checkpoint(tiny_checkpoint("text") if model == TINY else model)
        self.config = self.checkpoint.config(TEXT_MODEL_TYPES)
        with loading(model):
            self.tokenizer = AutoTokenizer.from_pretrained(
                self.checkpoint.place, revision=self.checkpoint.commit
            )
        layers: int = self.config.num_hidden_layers
        if not -layers - 1 <= layer <= layers:
            raise ModelError(
                f"text layer {layer} does not exist in {model}: it has {layers} layers, so "
                f"--text-layer goes from {-layers - 1} to {layers}"
            )
        self.dim: int = self.config.hidden_size
        self.max_tokens: int = self.config.max_position_embeddings
        bos = self.tokenizer.bos_token_id
        bos = self.config.bos_token_id if bos is None else bos
        if bos is None:
            raise ModelError(f"{model} has no BOS token, which every Llama 3 has; use another copy")
        self.bos: int = bos

    @property
    def settings(self) -> dict[str, Any]:
        """What fixes the numbers that this encoder gives, for the cache's spec."""
        # One spelling for each layer: -1 and `layers` are the same states.
        layers = self.config.num_hidden_layers
        return {
            "model": self.name,
            "revision": self.checkpoint.revision,
            "layer": self.layer - layers - 1 if self.layer >= 0 else self.layer,
            "compute dtype": str(self.compute_dtype).removeprefix("torch."),
        }

    @cached_property
    def weights(self) -> torch.nn.Module:
        """The frozen model, loaded on first use."""
        return self.checkpoint.load(self.config, self.compute_dtype, self.device)

    def tokens(self, questions: Sequence[str]) -> list[list[int]]:
        """Tokenise whole questions, BOS first.

        Without BOS the first word's state is an outlier that swamps all others. Text that looks
        like a control token stays text.
        """
        if not questions:
            return []
        ids = self.tokenizer(
            list(questions), add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return [[self.bos, *question] for question in ids]

    @torch.inference_mode()
    def encode(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Encode questions of equal length.

        Equal lengths mean that the model sees no padding, so that a state does not depend on the
        other questions of the batch.

        Args:
            tokens: (questions, length) token ids.

        Returns:
            (questions, length, dim), on the device.
        """
        ids = torch.tensor(tokens, dtype=torch.long, device=self.device)
        output = self.weights(input_ids=ids, use_cache=False, output_hidden_states=self.layer != -1)
        if self.layer == -1:
            return output.last_hidden_state
        return output.hidden_states[self.layer]
