"""The families of question models: one declaration for each type.

What is stored is the same for all: the hidden states at a layer. The last one is after the model's
final norm, and every other one is before any norm; 0 is what the first layer gets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from frozen_vqa.pipeline.encoders.families.family import Family

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class TextFamily(Family):
    """A type of question model.

    Attributes:
        causal: Whether a token sees those before it alone, so that questions share the states of
            their common beginnings. Else each question has states of its own.
        windows: Which layers see only the `sliding_window` nearest tokens: none, all, or those that
            `layer_types` names. The last kind takes a mask for each type of layer.
    """

    causal: bool = True
    windows: Literal["none", "all", "by layer"] = "none"

    def tree_masks(
        self, config: Any, sees: np.ndarray, depths: np.ndarray
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Return what each prefix of a tree sees in a layer, or in each type of layer.

        Args:
            config: The model's configuration.
            sees: (prefixes, prefixes) whether the second one is a beginning of the first.
            depths: (prefixes,) place of each one's last token in its questions.
        """
        window = None if self.windows == "none" else config.sliding_window
        near = sees if window is None else sees & (depths[:, None] - depths < window)
        if self.windows != "by layer":
            return near
        masks = {FULL: sees, SLIDING: near}
        return {kind: masks[kind] for kind in set(config.layer_types)}


_GEMMA3 = TextFamily("Gemma 3", windows="by layer")
TEXT: Mapping[str, TextFamily] = {
    "llama": TextFamily("Llama"),  # 3, 3.1, 3.2; SmolLM2 is one, too
    "mistral": TextFamily("Mistral", windows="all"),
    "qwen2": TextFamily("Qwen", windows="by layer"),
    "qwen3": TextFamily("Qwen", windows="by layer"),
    "gemma3_text": _GEMMA3,
    "gemma3": TextFamily(
        "Gemma 3",
        part="text_config",
        keys={r"^(model\.)?language_model\.(model\.)?": ""},
        windows="by layer",
    ),
    "modernbert": TextFamily("ModernBERT", causal=False),
}
"""By `model_type`."""
