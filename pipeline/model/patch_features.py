"""What a head computes from the patch embeddings of a batch without any of its weights.

It is the same for all heads of a sweep, so the first head that asks computes it, and the batch
keeps it for the others.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from frozen_vqa.pipeline.model.attention import cast_for_autocast
from frozen_vqa.pipeline.model.pooling import mean

TOGETHER = 1 << 20
"""Numbers that a CPU normalises and averages together."""


class Patches:
    """Patch embeddings of the pictures of a batch: (images, patches, vision_dim).

    They are of any float type, or int8 with `scales`, (images, patches), the factor of each.
    """

    def __init__(self, embeddings: Tensor, scales: Tensor | None = None) -> None:
        if scales is None and not embeddings.is_floating_point():
            raise ValueError(f"{embeddings.dtype} patch embeddings need their scales")
        self._embeddings, self._scales = embeddings, scales
        self._each: dict[tuple[torch.dtype, bool], Tensor] = {}
        self._averages: dict[torch.dtype, Tensor] = {}

    def each(self, dtype: torch.dtype) -> Tensor:
        """Return normalised patches in `dtype`, or autocast's: (images, patches, vision_dim)."""
        key = dtype, torch.is_autocast_enabled(self._embeddings.device.type)
        if key not in self._each:
            x = cast_for_autocast(self._embeddings, dtype)
            if self._scales is not None:
                x = x * cast_for_autocast(self._scales, dtype)[..., None]
            self._each[key] = normalise(x)
        return self._each[key]

    def average(self, dtype: torch.dtype) -> Tensor:
        """Return averages of normalised patches, always in `dtype`: (images, 1, vision_dim).

        Equals `pool` of the normalised patches in `reference.py`, without scores.
        """
        if dtype not in self._averages:
            images, patches, features = self._embeddings.shape
            part = images
            if self._embeddings.device.type == "cpu":
                # Intermediate results stay in the processor's cache: about a quarter less time.
                part = max(1, TOGETHER // (patches * features))
            parts = [self._average(slice(i, i + part), dtype) for i in range(0, images, part)]
            self._averages[dtype] = torch.cat(parts).unsqueeze(1)
        return self._averages[dtype]

    def _average(self, part: slice, dtype: torch.dtype) -> Tensor:
        x = self._embeddings[part].to(dtype)
        if self._scales is not None:
            x = x * self._scales[part].to(dtype)[..., None]
        return mean(normalise(x))


def normalise(x: Tensor) -> Tensor:
    """Apply LayerNorm without scale and shift to the features of an encoder.

    The linear map that follows already has both, and to train them a gradient would have to go
    through every feature. The result has the type of `x`; its sums are of single precision.
    """
    # A GPU's autocast would copy all features to single precision and back.
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, x.shape[-1:])
