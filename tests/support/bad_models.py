"""The rows of docs/bad-inputs.md about models of no family, and sizes that no model takes."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support.bad_inputs import REFUSED, STORED, Row
from tests.support.bad_options import EXTRACT, option
from tests.support.families import save_text, save_vision


def _config(make: Callable[[str], object], content: dict[str, Any], folder: Path) -> Row:
    """A folder that has a config.json alone, which suffices to refuse it."""
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text(json.dumps(content))
    return _outcome(make, folder)


def _outcome(make: Callable[..., object], folder: Path, **how: Any) -> Row:
    try:
        make(str(folder / "model"), **how)
    except ModelError as error:
        return REFUSED, str(error)
    return STORED, "as it is"


def _of_part(kind: str, key: str, value: object, folder: Path) -> Row:
    """A whole checkpoint, in whose section about the part that is used one value is changed."""
    save, make = (save_text, TextEncoder) if kind == "gemma3" else (save_vision, ImageEncoder)
    file = save(folder / "model", kind).folder / "config.json"
    config = json.loads(file.read_text())
    config["text_config" if kind == "gemma3" else "vision_config"][key] = value
    file.write_text(json.dumps(config))
    return _outcome(make, folder)


def _size(kind: str, size: int | str, folder: Path, **how: Any) -> Row:
    save_vision(folder / "model", kind)
    return _outcome(ImageEncoder, folder, image_size=size, **how)


MODELS: dict[str, Callable[[Path], Row]] = {
    "picture model of no family": partial(_config, ImageEncoder, {"model_type": "swin"}),
    "question model of no family": partial(_config, TextEncoder, {"model_type": "t5"}),
    "question model for pictures": partial(_config, ImageEncoder, {"model_type": "llama"}),
    "SigLIP 2 of no fixed size": partial(_config, ImageEncoder, {"model_type": "siglip2"}),
    "Gemma 3 that reads both ways": partial(
        _of_part, "gemma3", "use_bidirectional_attention", True
    ),
    "Gemma 3 with 100,000 layers in its part of questions": partial(
        _of_part, "gemma3", "num_hidden_layers", 100_000
    ),
    "CLIP with 100,000 layers in its part of pictures": partial(
        _of_part, "clip", "num_hidden_layers", 100_000
    ),
    "SigLIP whose part of pictures names a program of the Hub": partial(
        _of_part, "siglip", "_attn_implementation", "who/else"
    ),
    "`--image-size` between patches": partial(_size, "vit", "32x44"),
    "`--image-size` of one long side": partial(_size, "dinov3_vit", "8x1032"),
    "`--image-size` that is not square, with `--fit crop`": partial(
        _size, "clip", "32x48", fit="crop"
    ),
    "`--image-size` with a star": option(EXTRACT, "--image-size=336*448"),
    "`--image-size` of three sides": option(EXTRACT, "--image-size=3x336x448"),
    "`--image-size` below 0": option(EXTRACT, "--image-size=-224"),
    "`--image-size` of a fraction": option(EXTRACT, "--image-size=224.0"),
}
