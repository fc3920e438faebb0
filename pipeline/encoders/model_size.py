"""What a model's config.json asks for, compared with its files before any room is made for it."""

from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import ModelError, reason_of


def require_room(model: str, folder: Path, config: Any) -> None:
    """Raise `ModelError` if the weights in a folder are too few for what a configuration says.

    transformers would fill what they lack. Weights still on the Hub are not looked at.
    """
    import torch
    from transformers import MODEL_MAPPING

    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    try:
        with torch.device("meta"):
            numbers = sum(one.numel() for one in MODEL_MAPPING[type(config)](config).parameters())
    except Exception as error:  # values that do not fit each other raise nearly any class
        raise ModelError(f"{model}: its config.json makes no model ({reason_of(error)})") from error
    if stored and numbers > stored:
        raise ModelError(
            f"{model}: config.json says {numbers:,} weights, but its .safetensors files have "
            f"{stored:,} bytes; download it again"
        )
