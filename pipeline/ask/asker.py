"""A head with the encoders that its features came from: answers new pictures and questions.

The features are rounded as in the cache that the head was trained from, so the logits are those of
`evaluate` for the same picture and question.
"""

import json
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.format.parts import LAST, Part
from frozen_vqa.cache.typed_json import FILE_PATH, UnfitValueError, decode
from frozen_vqa.pipeline.encoders.checks.quantise import Quantize
from frozen_vqa.pipeline.encoders.checks.repository import recorded_commit
from frozen_vqa.pipeline.encoders.image_encoder import MOST_PATCHES, ImageEncoder
from frozen_vqa.pipeline.encoders.own_model import is_own_model
from frozen_vqa.pipeline.encoders.reading import reading_of, recorded_sides, size_of
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.errors import ModelError, NotFiniteError, RunError
from frozen_vqa.pipeline.extract.feature_encoder import patches_to_numpy, pooled
from frozen_vqa.pipeline.extract.models.precision import NAMES
from frozen_vqa.pipeline.extract.models.several import join_encoders, parts_of, shown
from frozen_vqa.pipeline.extract.plan import length_fault
from frozen_vqa.pipeline.plugins import trusted
from frozen_vqa.pipeline.runs.description import eyes_of, named_parts, recorded_cache
from frozen_vqa.pipeline.runs.run import Run, parts_of_run
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import encoder_dtype
from frozen_vqa.pipeline.system.tensors import as_tensor

Name = Annotated[str, FILE_PATH]


Layer = Annotated[int, (-1000, 1000)]


class _Vision(TypedDict):
    model: Name
    revision: str
    fit: Literal["whole", "crop"]
    layer: NotRequired[Layer]
    pool: NotRequired[Annotated[int, (1, MOST_PATCHES)]]


class _Text(TypedDict):
    model: Name
    revision: str
    layer: Layer
    quantize: NotRequired[Quantize]


class _Encoders(TypedDict):
    """What has to be known of the encoders to load them."""

    vision: _Vision
    text: _Text
    more_vision: NotRequired[Sequence[_Vision]]
    more_text: NotRequired[Sequence[_Text]]


class Asker:
    """A trained head and its encoders, which are loaded once.

    The Hub is asked only for models of the run's cache, and stderr says so before. The caller reads
    pictures as `reading` says.

    Raises:
        ModelError: if an encoder cannot be loaded.
        PluginError: if the run names code that the user has not named.
        RunError: if it is no longer the same checkpoint, or the head reads choices or several
            pictures.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        run.require_no_needs("`ask` gives it a question and a picture")
        self.run, self.device = run, device
        self.images, self.words, self.pool = _load_encoders(run, device)
        self.reading = reading_of(run.encoders["vision"])

    def tokens(self, question: str) -> list[int]:
        """Return the tokens of a question; raise `RunError` if it is too long for the encoder."""
        (tokens,) = self.words.tokens([question])
        if fault := length_fault(tokens, self.words):
            raise RunError(fault)
        return tokens

    def shown(self, picture: Image.Image) -> Image.Image:
        """Return what the encoder sees of a picture, the first one of several."""
        return Image.fromarray(shown(self.images, self.images.pixels(picture)))

    @torch.inference_mode()
    def logits(self, picture: Image.Image, questions: Sequence[str]) -> Tensor:
        """Return the logits of some questions about an RGB picture: (questions, answers) float32.

        Raises:
            RunError: if a question is longer than the text encoder reads.
            NotFiniteError: if a number of an answer is not finite.
        """
        tokens = [self.tokens(question) for question in questions]
        patches, _ = self.images.encode(self.images.pixels(picture)[np.newaxis])
        # Rounded between, as in the cache.
        dims = self.run.model.config.vision_parts or (self.images.dim,)
        patches = pooled(patches, self.images.grid, self.pool)
        numbers, scales = patches_to_numpy(patches, self.run.dtype, dims)
        states, mask = self._states(tokens)
        logits: Tensor = self.run.model(
            as_tensor(numbers).to(self.device),
            states,
            mask,
            None if scales is None else torch.from_numpy(scales).to(self.device),
        )
        if not torch.isfinite(logits).all():
            raise NotFiniteError(
                f"{self.run.path}: the head's answer is not finite; its weights, or those of an "
                f"encoder, are too large. Take an earlier head, or train again with a lower --lr "
                f"or --clip."
            )
        return logits.cpu()

    def _states(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return hidden states, (1, questions, tokens, text_dim), and which are no padding."""
        dtype = torch.float16 if self.run.dtype == "int8" else getattr(torch, self.run.dtype)
        each = [self.words.encode([question])[0].to(dtype) for question in tokens]
        states = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
        lengths = torch.tensor([len(question) for question in tokens], device=self.device)
        mask = torch.arange(states.shape[1], device=self.device) < lengths[:, None]
        return states.unsqueeze(0), mask.unsqueeze(0)

    def rank(self, logits: Tensor, top: int) -> list[tuple[str, float]]:
        """Return the most likely answers by their (answers,) logits, with their probabilities.

        Each probability is judged by itself (sigmoid), as the training does.
        """
        values, classes = logits.sigmoid().topk(min(top, len(logits)))
        answers = self.run.vocabulary.answers
        return [
            (answers[i], float(value))
            for i, value in zip(classes.tolist(), values.tolist(), strict=True)
        ]


def _load_encoders(run: Run, device: torch.device) -> tuple[ImageEncoder, TextEncoder, int]:
    """Return the encoders whose features the head was trained on, and how these are pooled."""
    try:
        asked = decode(_Encoders, run.encoders)
        for part in eyes_of(run.encoders):
            recorded_sides(part)
    except (UnfitValueError, ModelError) as error:
        fault = f"encoders.{error}" if isinstance(error, UnfitValueError) else str(error)
        raise RunError(
            f"{run.path / 'config.json'}: {fault}, so it does not say which encoders to "
            f"ask. Train the head from a cache that extract-features made."
        ) from None
    strange = not _cache_knows(run)
    parts = list(named_parts(run.encoders).values())
    models = list(dict.fromkeys(str(part["model"]) for part in parts))
    own = [name for name in models if is_own_model(name)]
    for name in own:
        trusted(name, where=run.path, option="--encoder")
    strangers = [
        name for name in models if not (strange or name in (TINY, *own) or os.path.isdir(name))
    ]
    if strangers:
        console.print(f"asking the Hub for {' and '.join(strangers)}")
    each = []
    for layers in _by_encoder([asked["vision"], *asked.get("more_vision", ())]):
        vision = layers[0]
        each.append(
            ImageEncoder(
                vision["model"],
                revision=_commit(vision),
                layer=[part.get("layer", LAST) for part in layers],
                image_size=size_of(recorded_sides(vision)),
                fit=vision["fit"],
                device=device,
                compute_dtype=_dtype(vision, device),
                local_only=strange,
            )
        )
    images, words = join_encoders(each), [asked["text"], *asked.get("more_text", ())]
    text = TextEncoder(
        words[0]["model"],
        revision=_commit(words[0]),
        layer=[part["layer"] for part in words],
        device=device,
        compute_dtype=_dtype(words[0], device),
        local_only=strange,
        quantize=words[0].get("quantize"),
    )
    _require_same(run, [*parts_of(images), *parts_of(text)], parts)
    pool, grid = asked["vision"].get("pool", 1), run.model.config.grid
    if images.grid != (grid[0] * pool, grid[1] * pool):
        raise RunError(
            f"{run.path / 'config.json'}: {images.name} has {images.grid[0]} x {images.grid[1]} "
            f"patches, but the head was trained on {grid[0]} x {grid[1]}, each the mean of "
            f"{pool} x {pool}; train the head again"
        )
    return images, text, pool


def _by_encoder(parts: Sequence[Any]) -> list[list[Any]]:
    """Return the parts of each encoder, those of several layers together."""

    def encoder(part: Mapping[str, Any]) -> str:
        return json.dumps([*sorted((k, v) for k, v in part.items() if k != "layer")])

    return [list(layers) for _, layers in groupby(parts, encoder)]


def _require_same(run: Run, found: Sequence[Part], trained: Sequence[Mapping[str, Any]]) -> None:
    """Raise `RunError` unless the encoders give the parts that a head was trained on."""
    for one, was in zip(found, trained, strict=True):
        if was["revision"] != one.settings["revision"]:
            raise RunError(
                f"{run.path}: trained on features of {was['model']} at {was['revision']}, "
                f"but that model is now at {one.settings['revision']}; train the head again"
            )
    shapes, dims = run.model.config, [one.dim for one in found]
    sizes = [*(shapes.vision_parts or (shapes.vision_dim,))]
    sizes += [*(shapes.text_parts or (shapes.text_dim,))]
    if dims != sizes:
        raise RunError(
            f"{run.path}: its encoders give features of {dims} numbers, and the head reads {sizes}"
            f"; train the head again"
        )


def _commit(part: Mapping[str, Any]) -> str | None:
    """Return the commit whose features the head was trained on; None for what has none."""
    name = part["model"]
    on_hub = not (name == TINY or is_own_model(name) or os.path.isdir(name))
    return recorded_commit(part["revision"]) if on_hub else None


def _dtype(part: Mapping[str, Any], device: torch.device) -> torch.dtype:
    """Return the type to compute in: on a GPU that of the features, on a CPU what it does best."""
    recorded = part.get("compute dtype")
    if device.type == "cuda" and recorded in NAMES:
        return getattr(torch, str(recorded))
    return encoder_dtype(device)


def _cache_knows(run: Run) -> bool:
    """Whether the cache of a run is here and holds features of the models that the run names.

    A run may come from anywhere, and could let this machine ask the Hub for any repository.
    """
    try:
        cache = recorded_cache(run.path)
        parts_of_run(run, load_manifest(cache).spec, cache)
    except CacheError:  # another machine's, or of other models
        return False
    return True
