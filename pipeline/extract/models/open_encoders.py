"""The encoders: as a cache has recorded them, or as they are asked for.

A cache that is extended keeps the commits that its features came from, whatever the Hub has now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Resampling

from frozen_vqa.cache import CacheError, CacheSpec, load_manifest
from frozen_vqa.cache.format.parts import Part
from frozen_vqa.pipeline.encoders.checks.quantise import Quantize
from frozen_vqa.pipeline.encoders.checks.repository import recorded_commit
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.model_name import full_name
from frozen_vqa.pipeline.encoders.own_model import is_own_model
from frozen_vqa.pipeline.encoders.picture_files.nvjpeg import require_nvjpeg
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.models.precision import (
    ComputeDtype,
    compute_dtypes,
    text_dtype,
)
from frozen_vqa.pipeline.extract.models.several import join_encoders
from frozen_vqa.pipeline.system.console import console


def open_encoders(
    cache: Path,
    device: torch.device,
    *,
    vision_models: Sequence[str],
    vision_revisions: Sequence[str | None],
    vision_layers: Sequence[int],
    image_sizes: Sequence[int | str | None],
    text_model: str,
    text_revision: str | None,
    text_layers: Sequence[int],
    compute_dtype: ComputeDtype = "auto",
    quantize: Quantize | None = None,
    gpu_jpegs: bool = False,
    **vision: Any,
) -> tuple[ImageEncoder, TextEncoder]:
    """Return the encoders of pictures, as one, and of questions; their weights are not loaded.

    Args:
        cache: The folder of the cache that will hold their features.
        vision_revisions, text_revision: Branches, tags or commits; None for the recorded ones, or
            for the main branch where nothing is recorded. As `image_sizes`, one for each model.
        vision_layers, text_layers: The layers of each model that are stored.
        quantize: How the text model's weights are quantised, if they are.
        compute_dtype: "auto" is the recorded one, or the best that is finite on this device.
        gpu_jpegs: Whether the device decodes and resizes JPEGs.
        vision: What `ImageEncoder` takes besides.

    Raises:
        ModelError: if one cannot be loaded.
        PluginError: if code of the user's own cannot be used.
    """
    spec = _recorded(cache)
    each = []
    for model, revision, size in zip(vision_models, vision_revisions, image_sizes, strict=True):
        eyes = _settings_of(model, spec.vision_parts if spec else ())
        dtypes = compute_dtypes(compute_dtype, eyes.get("compute dtype"), device)
        each.append(
            ImageEncoder(
                model,
                revision=revision or _commit(model, eyes),
                layer=vision_layers,
                image_size=size,
                device=device,
                compute_dtype=dtypes[0] if is_own_model(model) else dtypes,
                **vision,
            )
        )
    if gpu_jpegs:
        _decode_on_gpu(each)
    words = spec.text if spec else {}
    text = TextEncoder(
        text_model,
        revision=text_revision or _commit(text_model, words),
        layer=text_layers,
        device=device,
        compute_dtype=text_dtype(compute_dtype, words.get("compute dtype"), device),
        quantize=quantize,
    )
    return join_encoders(each), text


def _decode_on_gpu(each: Sequence[ImageEncoder]) -> None:
    """Let JPEGs be decoded by the device of these encoders, or raise `ModelError`."""
    for one in each:
        resample = one.processor.resample if hasattr(one, "processor") else Resampling.BICUBIC
        gpu = require_nvjpeg(one.device, resample, one.name)
        one.reading = replace(one.reading, gpu=gpu)


def _settings_of(model: str, parts: Sequence[Part]) -> Mapping[str, Any]:
    """Return the recorded settings of a model, or of any if there is none of this name."""
    named = [part.settings for part in parts if part.model in (model, full_name(model))]
    return (named or [part.settings for part in parts] or [{}])[0]


def show_moved(cache: Path, encoders: Sequence[ImageEncoder | TextEncoder]) -> None:
    """Print which models have moved on the Hub since the cache recorded them."""
    if _recorded(cache) is None:
        return
    for encoder in encoders:
        if newest := encoder.moved_to():
            console.show(
                f"the main branch of {encoder.name} on the Hub is now at {newest}; this cache "
                f"keeps {encoder.settings['revision']}, which it was made with"
            )


def _recorded(cache: Path) -> CacheSpec | None:
    """Return the spec of a cache that holds something, or None; a damaged one is said later."""
    try:
        manifest = load_manifest(cache)
    except CacheError:
        return None
    return None if manifest.is_empty else manifest.spec


def _commit(model: str, recorded: Mapping[str, Any]) -> str | None:
    """Return the recorded commit if it is one of this model."""
    if recorded.get("model") == full_name(model):
        return recorded_commit(recorded.get("revision"))
    return None
