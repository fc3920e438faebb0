"""What heads make of the patch embeddings of a batch before any of their weights has a part in it.

All heads of a sweep make the same of them. So it is made when the first one asks for it, and kept
for the others as long as the batch is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from frozen_vqa.pipeline.model.attention import lowered
from frozen_vqa.pipeline.model.pooling import mean

TOGETHER = 1 << 20
"""Numbers that a CPU normalises and averages at a time."""


class Patches:
    """Patch embeddings of the pictures of a batch.

    Args:
        embeddings: (images, patches, vision_dim), any float type, or int8 with scales.
        scales: (images, patches), by what each patch embedding is multiplied.
    """

    def __init__(self, embeddings: Tensor, scales: Tensor | None = None) -> None:
        if scales is None and not embeddings.is_floating_point():
            raise ValueError(f"{embeddings.dtype} patch embeddings need their scales")
        self._embeddings, self._scales = embeddings, scales
        self._each: dict[tuple[torch.dtype, bool], Tensor] = {}
        self._averages: dict[torch.dtype, Tensor] = {}

    def each(self, dtype: torch.dtype) -> Tensor:
        """Return what is to be projected: (images, patches, vision_dim).

        Args:
            dtype: Of the head's weights. Under autocast the result is what that multiplies.
        """
        key = dtype, torch.is_autocast_enabled(self._embeddings.device.type)
        if key not in self._each:
            x = lowered(self._embeddings, dtype)
            if self._scales is not None:
                x = x * lowered(self._scales, dtype)[..., None]
            self._each[key] = normalised(x)
        return self._each[key]

    def average(self, dtype: torch.dtype) -> Tensor:
        """Return the average over each picture's patches of what is to be projected.

        Args:
            dtype: Of the head's weights and of the result, under autocast too.

        Returns:
            (images, 1, vision_dim).
        """
        if dtype not in self._averages:
            images, patches, features = self._embeddings.shape
            part = images
            if self._embeddings.device.type == "cpu":
                # What lies between stays in the processor's cache: about a quarter less time.
                part = max(1, TOGETHER // (patches * features))
            parts = [self._average(slice(i, i + part), dtype) for i in range(0, images, part)]
            self._averages[dtype] = torch.cat(parts).unsqueeze(1)
        return self._averages[dtype]

    def _average(self, part: slice, dtype: torch.dtype) -> Tensor:
        x = self._embeddings[part].to(dtype)
        if self._scales is not None:
            x = x * self._scales[part].to(dtype)[..., None]
        return mean(normalised(x))


def normalised(x: Tensor) -> Tensor:
    """Return features of an encoder as a projection takes them: LayerNorm over the last axis.

    A scale and a shift of its own would be those of the linear map twice over, and to train them a
    gradient would have to go through every feature.
    """
    return F.layer_norm(x, x.shape[-1:])
