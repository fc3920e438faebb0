"""One worker: both encoders on one device, for one chunk after another.

It knows nothing of what carries tasks to it. Two threads call `encode`, so that one decodes the
next chunk or writes the last while the other has the device.
"""

import math
from collections.abc import Mapping
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from frozen_vqa import __version__
from frozen_vqa.cache import Failure, Manifest
from frozen_vqa.cache.disk.staging import stage_shard
from frozen_vqa.cache.format.shards import Shard, question_shard
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.own_model import is_own_model
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError, PipelineError
from frozen_vqa.pipeline.extract.batch_size import BatchSize, choose_batch_size
from frozen_vqa.pipeline.extract.chunks import QuestionChunk
from frozen_vqa.pipeline.extract.decoder import PictureDecoder
from frozen_vqa.pipeline.extract.engines.task import (
    CarriedPictures,
    Done,
    OpenEncoders,
    Preparation,
    Settled,
    Task,
    compute_as,
    types_of,
)
from frozen_vqa.pipeline.extract.feature_encoder import TEXT_BATCH, FeatureEncoder
from frozen_vqa.pipeline.extract.models.open_encoders import open_encoders
from frozen_vqa.pipeline.extract.models.precision import settle_precision
from frozen_vqa.pipeline.extract.models.preflight import load_models
from frozen_vqa.pipeline.extract.models.several import cache_spec, each_of
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.throughput import PhaseTimer
from frozen_vqa.pipeline.plugins import trust
from frozen_vqa.pipeline.system.device import (
    choose_device,
    device_name,
    keep_freed_memory,
    use_cores,
)
from frozen_vqa.pipeline.system.ranks import ALONE

AT_ONCE = 2
"""Chunks that a worker has at once."""


@dataclass(frozen=True)
class EncoderRecipe:
    """Opens on another machine the encoders that this one has opened, at the same commits."""

    cache: Path
    options: Mapping[str, Any]  # of `open_encoders`

    def __call__(self, device: torch.device) -> tuple[ImageEncoder, TextEncoder]:
        for model in (*self.options["vision_models"], self.options["text_model"]):
            if is_own_model(model):
                trust(model)  # as the user did, who named it on the command line
        return open_encoders(self.cache, device, **self.options)

    def pinned(self, images: ImageEncoder, text: TextEncoder) -> "EncoderRecipe":
        """Return the recipe for elsewhere, with the commits that these have found on the Hub."""
        given = (*self.options["vision_revisions"], self.options["text_revision"])
        *several, last = (
            getattr(getattr(one, "checkpoint", None), "commit", None) or revision
            for one, revision in zip((*each_of(images), text), given, strict=True)
        )
        commits = {"vision_revisions": several, "text_revision": last}
        return replace(self, cache=self.cache.absolute(), options={**self.options, **commits})


def versions() -> dict[str, str]:
    """Return the packages that make the numbers; other ones may change the last bits."""
    others = {name: version(name) for name in ("torch", "transformers")}
    return {"frozen-vqa": __version__, **others}


class Worker:
    """Encodes chunks; nothing is opened before `settle` or `prepare`, whose errors are sent back.

    Args:
        open_both: Opens the encoders.
        device: "auto", "cuda" or "cpu", of the machine where the worker is.
    """

    def __init__(self, open_both: OpenEncoders, device: str) -> None:
        self._open, self._device = open_both, device

    @cached_property
    def _encoders(self) -> tuple[ImageEncoder, TextEncoder]:
        keep_freed_memory()
        use_cores()
        return self._open(choose_device(self._device))

    def settle(self, sample: CarriedPictures, cache: Path) -> Settled:
        """Choose the types and the batch size of a new cache, from its first pictures.

        Raises:
            ModelError: if a model cannot be loaded, or no type is finite.
        """
        images, text = self._encoders
        plan = _only(sample)
        origin = settle_precision(sample, plan, images, text, cache, ALONE)
        decoder = PictureDecoder(sample, images)
        batch_size = choose_batch_size(
            images,
            Manifest(spec=cache_spec(images, text)),
            lambda: decoder.first_pixels(plan.images),
        )
        return Settled(types_of(images, text), origin, batch_size)

    def prepare(self, wanted: Preparation) -> str:
        """Load what the chunks need; return the device for people.

        Raises:
            ModelError: if a model cannot be loaded, or is not the one of the driver.
            PipelineError: if the packages are not those of the driver.
        """
        if (found := versions()) != wanted.versions:
            raise PipelineError(
                f"it has {_listed(found)}, and the driver {_listed(wanted.versions)}; install the "
                f"same versions on all nodes, because others may change the last bits"
            )
        images, text = self._encoders
        compute_as(images, text, wanted.dtypes)
        spec = cache_spec(images, text, wanted.spec.dtype, wanted.pool)
        mine, ours = spec.settings(), wanted.spec.settings()
        if other := [name for name in {**mine, **ours} if mine.get(name) != ours.get(name)]:
            raise ModelError(
                f"its encoders are not those of the driver: {other[0]} is {mine.get(other[0])!r}, "
                f"and {ours.get(other[0])!r} there; give all nodes the same files"
            )
        groups: list[list[tuple[Any, int]]] = []
        if wanted.questions:
            groups.append([(text, TEXT_BATCH * wanted.longest)])
        if wanted.images:
            tokens = wanted.batch_size * math.prod(images.grid)
            groups.append([(one, tokens) for one in each_of(images)])
        self._together = load_models(groups, wanted.cache)
        self._cache, self._sees = wanted.cache, wanted.witness.exists()
        nothing = CarriedPictures({}, {})
        self._turn = Lock()
        self._encoder = FeatureEncoder(
            nothing, _only(nothing), images, text, spec.dtype, wanted.pool
        )
        self._batch_size = _OneAtATime(wanted.batch_size, self._turn)
        return device_name(images.device)

    def encode(self, task: Task) -> Done:
        """Encode a chunk; stage its shard in the folder of the cache, or return it.

        Raises:
            CacheError: if it cannot be stored, or a number is not finite.
            ModelError: if the memory does not suffice for one picture.
        """
        timer = PhaseTimer()
        shard, failures = self._shard(task, timer)
        if not self._sees:
            return Done.carrying(shard, failures, timer.seconds)
        with timer.measure("writing"):
            staged = stage_shard(self._cache, task.key, shard, kind=task.kind, failures=failures)
        return Done(failures, timer.seconds, staged)

    def _shard(self, task: Task, timer: PhaseTimer) -> tuple[Shard | None, list[Failure]]:
        encoder, chunk = self._encoder, task.chunk
        if isinstance(chunk, QuestionChunk):
            with self._turn:
                if not self._together:  # all pictures are done
                    encoder.images.unload()
                new = encoder.encode_questions(chunk, timer)
            with timer.measure("writing"):
                return question_shard(encoder.spec, new, origin=task.origin), []
        own = copy(encoder)  # of this thread, with the pictures of this chunk
        own.source, own.decoder = task.source, PictureDecoder(task.source, encoder.images)
        with closing(own.encode_images([chunk], self._batch_size, timer)) as encoded:
            images = next(encoded)
        # Fewer than were asked for, if the memory did not suffice.
        origin = {**task.origin, "batch_size": self._batch_size.now}
        with timer.measure("writing"):
            return images.to_shard(encoder.spec, origin), list(images.failures)


class _OneAtATime(BatchSize):
    """The batch size of all threads, one of which has the device at a time."""

    def __init__(self, pictures: int, turn: Lock) -> None:
        super().__init__(pictures)
        self._turn = turn

    def encode(
        self, encoder: ImageEncoder, pixels: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with self._turn:
            return super().encode(encoder, pixels)


def _only(sample: CarriedPictures) -> Plan:
    """Return a plan of these pictures and no question."""
    return Plan({}, {}, list(sample.pictures), list(sample.pictures), {}, tokens=0, prefixes=0)


def _listed(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in packages.items())
