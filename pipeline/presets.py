"""Named sets of settings, which a TOML file and flags override."""

from collections.abc import Mapping
from typing import Any

PRESETS: dict[str, Mapping[str, Any]] = {
    "basic": {
        "layers": 1,
        "width": 0,
        "heads": 8,
        "place": False,
        "text_self_attention": False,
        "merge": "concat",
        "pooling": "mean",
        "post_norm": True,
        "answer_head": "linear",
    },
    "small": {
        "layers": 6,
        "width": 512,
        "heads": 8,
        "text_self_attention": True,
        "dropout": 0.1,
        "lr": 2e-4,
    },
    "large": {
        "layers": 6,
        "width": 1024,
        "heads": 16,
        "text_self_attention": True,
        "dropout": 0.1,
        "lr": 1e-4,
    },
}
"""By name. `basic` is the plainest form: as wide as the hidden states, post-norm, one layer, a ReLU
MLP on original and attended features, masked means, a linear head. `small` and `large` have the
depth and widths of MCAN (Yu et al., 2019)."""
