"""What encoders of pictures and of questions have in common: a checkpoint, and its frozen weights.

Name and settings are known at once. The weights are loaded with the first batch, so a command that
finds nothing to encode loads nothing.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch

from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint
from frozen_vqa.pipeline.system.device import give_back_memory


class FrozenEncoder(ABC):
    """A model that is never trained; `weights` has it once a batch has been encoded.

    `layers` are those whose states are stored.
    """

    checkpoint: Checkpoint
    device: torch.device
    compute_dtype: torch.dtype
    layers: tuple[int, ...]

    @abstractmethod
    def settings_at(self, layer: int) -> dict[str, Any]:
        """Return the settings that `settings` would be if only this layer were stored."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines this encoder's numbers; of several layers, those of the first.

        They are for the cache's spec.
        """
        return self.settings_at(self.layers[0])

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute in another type; the weights are loaded in it with the next batch."""
        if dtype != self.compute_dtype:
            self.compute_dtype = dtype
            self.unload()

    def unload(self) -> None:
        """Free the memory of the weights; the next batch loads them again."""
        if vars(self).pop("weights", None) is not None:
            give_back_memory(self.device)

    def moved_to(self) -> str | None:
        """Return the commit that the model's main branch on the Hub is now, if it is another."""
        return self.checkpoint.moved_to()
