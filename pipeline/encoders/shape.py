"""What a model's config.json may say of sizes, before any room is made for them.

transformers makes lists as long as some numbers in the file, and divides by others. So they are
checked before it reads them. Whatever else is wrong in the file shows when it is loaded or used.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.typed_json import UnfitValueError, decode
from frozen_vqa.pipeline.errors import ModelError, reason_of
from frozen_vqa.pipeline.system.library_files import read_safetensors_header

Size = Annotated[int, (1, 2**20)]


class Shape(TypedDict, total=False):
    """What we read ourselves, and what transformers counts up to."""

    hidden_size: Size
    num_hidden_layers: Annotated[int, (0, 1_000)]  # the largest Llama has 126
    num_attention_heads: Size
    num_labels: Size
    image_size: Size
    patch_size: Size
    num_register_tokens: Annotated[int, (0, 1_000)]
    max_position_embeddings: Annotated[int, (1, 2**40)]
    bos_token_id: Annotated[int | None, (0, 2**40)]


def require_possible_sizes(config: object) -> None:
    """Raise `ValueError` unless the content of a config.json has these types and ranges.

    So must its sections, each of which may be about a part of the model.
    """
    sections = config.values() if isinstance(config, Mapping) else ()
    try:
        for one in (config, *(section for section in sections if isinstance(section, Mapping))):
            decode(Shape, one)
    except UnfitValueError as error:
        raise ValueError(f"in its config.json {error}") from None


def count_weights(model: str, config: Any, leave_out: Mapping[str, Any]) -> int:
    """Return how many numbers a model of this configuration has, without making room for them.

    `leave_out` is what its class is told beside. Raise `ModelError` if that makes no model.
    """
    import torch
    from transformers import MODEL_MAPPING

    try:
        with torch.device("meta"):
            made = MODEL_MAPPING[type(config)](config, **leave_out)
            return sum(one.numel() for one in made.parameters())
    except Exception as error:  # values that do not fit each other raise nearly any class
        raise ModelError(f"{model}: its config.json makes no model ({reason_of(error)})") from error


def require_whole_weights(model: str, folder: Path, numbers: int) -> None:
    """Raise `ModelError` if the weights in a folder are too few for what a configuration says.

    transformers would fill what they lack.
    """
    stored = sum(_told_bytes(file) for file in folder.glob("*.safetensors"))
    if stored and numbers > stored:
        raise ModelError(
            f"{model}: config.json says {numbers:,} weights, but its .safetensors files have "
            f"{stored:,} bytes; download it again"
        )


def _told_bytes(path: Path) -> int:
    """Return the size of a file of weights; raise `ModelError` if it is not what its header tells.

    Its library maps all of it, and a file of zeros may be as long as anybody likes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        _, told = read_safetensors_header(file)
    if told != size:
        found = "has no header" if told is None else f"has {size:,} bytes and a header for {told:,}"
        raise ModelError(f"{path}: it {found}, so these are no whole weights; download it again")
    return size
