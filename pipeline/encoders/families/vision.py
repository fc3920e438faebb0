"""The families of picture models: one declaration for each type.

What is stored is the same for all: the patch embeddings of the last layer after the model's final
norm, and a vector for CLS. Where a model has no CLS token, the mean of its patch embeddings stands
for it, as for code of the user's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from frozen_vqa.pipeline.encoders.families.family import Family


@dataclass(frozen=True)
class VisionFamily(Family):
    """A type of picture model.

    Attributes:
        cls: Whether a CLS token stands first. Registers (`num_register_tokens`) follow it, and then
            the patches in row-major order.
        norm: The module that is the final norm, where `last_hidden_state` comes before it.
        run: What a forward pass is told beside the pixels.
    """

    cls: bool = True
    norm: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)

    def tokens_before_patches(self, config: Any) -> int:
        """Return the number of tokens that are no patches, all of which come first."""
        return int(self.cls) + getattr(config, "num_register_tokens", 0)


# Or these take no pictures of another size than their own. At their own size it changes nothing.
_INTERPOLATES = {"interpolate_pos_encoding": True}

_CLIP = VisionFamily(
    "CLIP",
    # transformers applies it to CLS alone. Here it bounds the patch embeddings too, as elsewhere.
    norm="post_layernorm",
    run=_INTERPOLATES,
)
_SIGLIP = VisionFamily(
    "SigLIP",
    settings={"vision_use_head": False},  # it pools the patches into one vector, after the norm
    cls=False,
    run=_INTERPOLATES,
)
VISION: Mapping[str, VisionFamily] = {
    "dinov2": VisionFamily("DINOv2"),
    "dinov2_with_registers": VisionFamily("DINOv2"),
    "dinov3_vit": VisionFamily("DINOv3"),  # rotary positions, which fit any size
    "vit": VisionFamily("ViT", leave_out={"add_pooling_layer": False}, run=_INTERPOLATES),
    "clip": replace(_CLIP, part="vision_config"),
    "clip_vision_model": _CLIP,
    "siglip": replace(_SIGLIP, part="vision_config"),
    "siglip_vision_model": _SIGLIP,
}
"""By `model_type`. SigLIP 2 of a fixed size has the type of SigLIP."""
