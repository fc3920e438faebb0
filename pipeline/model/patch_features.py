"""What a head computes from the patch embeddings of a batch without any of its weights.

It is the same for all heads of a sweep, so the first head that asks computes it, and the batch
keeps it for the others.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from frozen_vqa.pipeline.model.attention import cast_for_autocast
from frozen_vqa.pipeline.model.pooling import mean

TOGETHER = 1 << 20
"""Numbers that a CPU normalises and averages together."""


class Patches:
    """Patch embeddings of the pictures of a batch: (images, patches, vision_dim).

    They are of any float type, or int8 with `scales`, (images, patches), the factor of each; or
    (images, patches, parts), the factor of each of its parts, which have the sizes that `each` and
    `average` are called with. Each part is normalised by itself.
    """

    def __init__(self, embeddings: Tensor, scales: Tensor | None = None) -> None:
        if scales is None and not embeddings.is_floating_point():
            raise ValueError(f"{embeddings.dtype} patch embeddings need their scales")
        self._embeddings, self._scales = embeddings, scales
        self._each: dict[tuple[torch.dtype, tuple[int, ...], bool], Tensor] = {}
        self._averages: dict[tuple[torch.dtype, tuple[int, ...]], Tensor] = {}

    def each(self, dtype: torch.dtype, parts: Sequence[int] = ()) -> Tensor:
        """Return normalised patches in `dtype`, or autocast's: (images, patches, vision_dim)."""
        key = dtype, tuple(parts), torch.is_autocast_enabled(self._embeddings.device.type)
        if key not in self._each:
            x = cast_for_autocast(self._embeddings, dtype)
            if self._scales is not None:
                x = x * _factors(cast_for_autocast(self._scales, dtype), parts)
            self._each[key] = normalise(x, parts)
        return self._each[key]

    def average(self, dtype: torch.dtype, parts: Sequence[int] = ()) -> Tensor:
        """Return averages of normalised patches, always in `dtype`: (images, 1, vision_dim).

        Equals `pool` of the normalised patches in `reference.py`, without scores.
        """
        key = dtype, tuple(parts)
        if key not in self._averages:
            images, patches, features = self._embeddings.shape
            some = images
            if self._embeddings.device.type == "cpu":
                # Intermediate results stay in the processor's cache: about a quarter less time.
                some = max(1, TOGETHER // (patches * features))
            places = (slice(i, i + some) for i in range(0, images, some))
            each = [self._average(place, dtype, parts) for place in places]
            self._averages[key] = torch.cat(each).unsqueeze(1)
        return self._averages[key]

    def _average(self, some: slice, dtype: torch.dtype, parts: Sequence[int]) -> Tensor:
        x = self._embeddings[some].to(dtype)
        if self._scales is not None:
            x = x * _factors(self._scales[some].to(dtype), parts)
        return mean(normalise(x, parts))


def _factors(scales: Tensor, parts: Sequence[int]) -> Tensor:
    """Return the factor of each number: (...) -> (..., 1), or (..., parts) -> (..., features)."""
    if not parts:
        return scales[..., None]
    each = zip(scales.split(1, -1), parts, strict=True)
    return torch.cat([scale.expand(*scale.shape[:-1], size) for scale, size in each], -1)


def normalise(x: Tensor, parts: Sequence[int] = ()) -> Tensor:
    """Apply LayerNorm without scale and shift to the features of an encoder.

    The linear map that follows already has both, and to train them a gradient would have to go
    through every feature. The result has the type of `x`; its sums are of single precision.
    Each part of several, which have these sizes, is normalised over its own features.
    """
    # A GPU's autocast would copy all features to single precision and back.
    with torch.autocast(x.device.type, enabled=False):
        if not parts:
            return F.layer_norm(x, x.shape[-1:])
        return torch.cat([F.layer_norm(p, p.shape[-1:]) for p in x.split(list(parts), -1)], -1)
