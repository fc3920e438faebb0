"""What a model's config.json may say of sizes.

transformers makes lists as long as some numbers in the file, and divides by others. So they are
checked before it reads them. Whatever else is wrong in the file shows when it is loaded or used.
"""

from typing import Annotated, TypedDict

from frozen_vqa.cache.typed_json import UnfitValueError, decode

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


def require_shape(config: object) -> None:
    """Raise `ValueError` unless the content of a config.json has these types and ranges."""
    try:
        decode(Shape, config)
    except UnfitValueError as error:
        raise ValueError(f"in its config.json {error}") from None
