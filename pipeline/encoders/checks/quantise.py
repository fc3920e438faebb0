"""Weights that bitsandbytes quantises while they are loaded: how, and whether it is there.

    int8    a byte for each weight; the products are of integers
    nf4     half a byte, and a float32 for each 64 weights; the products are of the compute type

Either keeps embeddings and norms as they are.
"""

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from frozen_vqa.pipeline.errors import ModelError

if TYPE_CHECKING:
    import torch

Quantize = Literal["int8", "nf4"]
QUANTIZE: tuple[Quantize, ...] = get_args(Quantize)
BYTES: dict[Quantize, float] = {"int8": 1, "nf4": 0.5 + 4 / 64}
"""Of one weight."""


def quantising(kind: Quantize, dtype: "torch.dtype", device: "torch.device") -> dict[str, Any]:
    """Return what `from_pretrained` is told, or raise `ModelError` if a library is missing."""
    for library in ("bitsandbytes", "accelerate"):
        if find_spec(library) is None:
            raise ModelError(
                f"--quantize {kind} needs {library}, which is not installed here; "
                f"`pip install 'frozen-vqa[quantize]'` brings it"
            )
    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of each cast
    if kind == "int8":
        # Without a threshold. With one, columns of large numbers are looked for in all tokens of a
        # batch, so that a state would depend on its neighbours: by 3 % (relative L2), measured.
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    return {"quantization_config": config, "device_map": {"": str(device)}}
