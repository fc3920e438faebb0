"""Forged model folders: configurations, tokenizers, processors, weights and their index."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.forged_cache_files import Change
from tests.support.forged_values import (
    TEXTS,
    below,
    edit_plain,
    forgeries,
    replaced,
    written,
)

VISION_CONFIG = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio"),
    *("image_size", "patch_size", "num_channels", "layer_norm_eps", "hidden_act", "qkv_bias"),
    *("layerscale_value", "drop_path_rate", "architectures", "dtype", "auto_map"),
)
TEXT_CONFIG = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("intermediate_size", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps"),
    *("hidden_act", "rope_parameters", "head_dim", "bos_token_id", "dtype", "initializer_range"),
    *("quantization_config", "auto_map", "attn_implementation", "architectures"),
)
PROCESSOR = (
    *("image_processor_type", "size", "crop_size", "image_mean", "image_std", "resample"),
    *("rescale_factor", "do_resize", "do_normalize", "do_center_crop", "do_rescale", "auto_map"),
)
HUGE = {"65,536": 65_536, "100,000": 100_000, "2**31": 2**31, "2**40": 2**40}


def put(file: str, **values: Any) -> Change:
    return lambda folder: edit_plain(folder / file, lambda found: found.update(values))


def optional(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file, in which a name may be absent."""

    def changed(found: dict[str, Any]) -> None:
        try:
            change(found)
        except KeyError:
            found["no_such_name"] = 1

    edit_plain(path, changed)


def huge(file: str, names: tuple[str, ...]) -> dict[str, Change]:
    return {
        f"{file}: {name} is {what}": put(file, **{name: value})
        for name in names
        for what, value in HUGE.items()
    }


INDEX = {
    "elsewhere": {"metadata": {}, "weight_map": {"norm.weight": "../secret/file"}},
    "absolute": {"metadata": {}, "weight_map": {"norm.weight": "/etc/hostname"}},
    "lost": {"metadata": {}, "weight_map": {"norm.weight": "lost.safetensors"}},
    "no map": {"metadata": {}},
    "a list": [],
    "a pickle": {"metadata": {}, "weight_map": {"norm.weight": "pytorch_model.bin"}},
    "numbers": {"metadata": {}, "weight_map": {"norm.weight": 1}},
    "escapes": {"metadata": {}, "weight_map": {"norm.weight": "\x1b[2J.safetensors"}},
}


def index(part: str, value: Any) -> Change:
    def make(folder: Path) -> None:
        (folder / part / "model.safetensors").unlink()
        (folder / part / "model.safetensors.index.json").write_text(json.dumps(value))

    return make


def pickled(part: str) -> Change:
    def make(folder: Path) -> None:
        (folder / part / "model.safetensors").unlink()
        (folder / part / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")

    return make


def normalizer(value: Any) -> Change:
    return lambda folder: edit_plain(
        folder / "text/tokenizer.json", lambda found: found.update(normalizer=value)
    )


def replacing(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


VISION: dict[str, Change] = {
    **forgeries("vision/config.json", below((), VISION_CONFIG), optional, each=3),
    **forgeries("vision/preprocessor_config.json", below((), PROCESSOR), optional, each=4),
    **huge(
        "vision/config.json", ("hidden_size", "num_hidden_layers", "image_size", "num_channels")
    ),
    **{f"index: {name}": index("vision", value) for name, value in INDEX.items()},
    **written("vision/config.json", TEXTS),
    **dict(
        replaced(
            f"vision/{n}" for n in ("config.json", "preprocessor_config.json", "model.safetensors")
        )
    ),
    "a pickle": pickled("vision"),
    "deviations of 0": put("vision/preprocessor_config.json", image_std=[0, 0, 0]),
    "deviations of NaN": put("vision/preprocessor_config.json", image_std=[float("nan")] * 3),
    "one mean": put("vision/preprocessor_config.json", image_mean=[0.5]),
    "1,000 means": put("vision/preprocessor_config.json", image_mean=[0.5] * 1000),
    "size of 44,800": put("vision/preprocessor_config.json", size={"shortest_edge": 44_800}),
    "crop of 2**31": put(
        "vision/preprocessor_config.json", crop_size={"height": 2**31, "width": 1}
    ),
}
TEXT: dict[str, Change] = {
    **forgeries("text/config.json", below((), TEXT_CONFIG), optional, each=3),
    **forgeries(
        "text/tokenizer_config.json",
        below(
            (), ("tokenizer_class", "bos_token", "model_max_length", "auto_map", "chat_template")
        ),
        optional,
        each=4,
    ),
    **forgeries(
        "text/tokenizer.json",
        below((), ("model", "pre_tokenizer", "normalizer", "added_tokens", "post_processor")),
        optional,
        each=4,
    ),
    **huge(
        "text/config.json", ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size")
    ),
    **{f"index: {name}": index("text", value) for name, value in INDEX.items()},
    **written("text/tokenizer.json", TEXTS),
    **dict(replaced(f"text/{n}" for n in ("config.json", "tokenizer.json", "model.safetensors"))),
    "a pickle": pickled("text"),
    "an adapter": lambda folder: (folder / "text/adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "../secret/folder", "peft_type": "LORA"})
    ),
    "a bomb of replacements": normalizer(
        {
            "type": "Sequence",
            "normalizers": [replacing({"String": " "}, " " * 100)] * 5,
        }
    ),
    "a regular expression that never ends": normalizer(replacing({"Regex": "(([a-z ?])+)+$#"}, "")),
    "text before each word": normalizer({"type": "Prepend", "prepend": "x" * (1 << 20)}),
}
