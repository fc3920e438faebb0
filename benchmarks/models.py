"""The real encoders' shapes with random weights, which take as long and as much as the real ones.

    python -m benchmarks.models FOLDER [--size base]

Writes `FOLDER/vision` and `FOLDER/text` as the Hub has them: safetensors, in the type of the real
file, with the settings of the real images and the tokenizer of the tiny encoder, so nothing is
fetched. Prints one JSON object: weights, bytes, and the operations of their matrix products.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Json
from benchmarks.peak import operations_of
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.system.console import console

Shape = Mapping[str, Any]

IMAGE_SIZE, TOKENS = 224, 8

# Sources: config.json of facebook/dinov2-small, -base, and of meta-llama/Llama-3.2-1B and -3.1-8B.
DINOV2_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
DINOV2_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
LLAMA_1B = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
LLAMA_8B = {
    **LLAMA_1B,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "head_dim": 128,
    "tie_word_embeddings": False,
    "rope_parameters": {**LLAMA_1B["rope_parameters"], "factor": 8.0},  # type: ignore[dict-item]
}
SIZES: Mapping[str, tuple[Shape, Shape]] = {
    "base": (DINOV2_BASE, LLAMA_1B),
    "8b": (DINOV2_BASE, LLAMA_8B),
    "tiny": (
        {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
        {
            **LLAMA_1B,
            "vocab_size": 2048,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
    ),
}
"""Shapes of both encoders; `tiny` shows that all of it works."""


def dinov2(shape: Shape) -> Any:
    """Return DINOv2's configuration of this shape."""
    from transformers import Dinov2Config

    return Dinov2Config(**shape, image_size=518, patch_size=14)


def llama(shape: Shape) -> Any:
    """Return Llama's configuration of this shape."""
    from transformers import LlamaConfig

    return LlamaConfig(**shape)


def write_dinov2(folder: Path, shape: Shape) -> Path:
    """Write a checkpoint in float32, with the preprocessor_config.json of facebook/dinov2-base."""
    from transformers import BitImageProcessorPil, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(dinov2(shape)).save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=3,
        do_convert_rgb=True,
    ).save_pretrained(folder)
    return folder


def write_llama(folder: Path, shape: Shape) -> Path:
    """Write a checkpoint in bfloat16, with the tokenizer of the tiny encoder."""
    from transformers import AutoModel

    torch.manual_seed(0)
    tiny = tiny_checkpoint("text")
    special = json.loads((tiny / "config.json").read_text(encoding="utf-8"))
    ids = {name: special[name] for name in ("bos_token_id", "eos_token_id")}
    AutoModel.from_config(llama({**shape, **ids}), dtype=torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny / name, folder / name)
    return folder


def count(shape: Shape, kind: str) -> Json:
    """Return the weights of "vision" or "text", and the operations of a picture or a token.

    A token is one of a question of eight. No memory is taken for the weights.
    """
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config((dinov2 if kind == "vision" else llama)(shape)).eval()
        if kind == "vision":
            given, parts = {"pixel_values": torch.empty(1, 3, IMAGE_SIZE, IMAGE_SIZE)}, 1
        else:
            ids = torch.zeros(1, TOKENS, dtype=torch.long)
            given, parts = {"input_ids": ids}, TOKENS
        with torch.inference_mode():
            operations = operations_of(lambda: model(**given)) / parts
    return {"weights": sum(one.numel() for one in model.parameters()), "operations": operations}


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="base")
    options = parser.parse_args()
    console.quiet = True
    found = {}
    for kind, write, shape in zip(
        ("vision", "text"), (write_dinov2, write_llama), SIZES[options.size], strict=True
    ):
        folder = write(options.folder / kind, shape)
        nbytes = sum(file.stat().st_size for file in folder.iterdir())
        found[kind] = {**count(shape, kind), "bytes": nbytes}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
