"""Both models are settled before the first picture is encoded: access, disk, memory, weights.

Encoding the pictures may take hours. Whatever is wrong with the model of the questions is said
before, too.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.cache.format.parts import LAST
from frozen_vqa.pipeline.encoders.checks.quantise import BYTES, Quantize
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.chunks import MissingWork
from frozen_vqa.pipeline.extract.feature_encoder import TEXT_BATCH, FeatureEncoder
from frozen_vqa.pipeline.extract.models.several import each_of
from frozen_vqa.pipeline.system.console import console, size
from frozen_vqa.pipeline.system.device import free_memory
from frozen_vqa.pipeline.system.disk import free_bytes, require_room
from frozen_vqa.pipeline.system.ranks import local_ranks

NUMBERS_PER_TOKEN = 8
"""Numbers for each of a token's own that a layer keeps at once: four of the MLP, and its input,
query, key and value. It is the least that any of these models needs."""


def settle_models(encoder: FeatureEncoder, work: MissingWork, cache: Path, batch_size: int) -> bool:
    """Load the models that have work to do, once it is clear that everything fits.

    Where memory does not take all of them, the text model is loaded, checked and freed. Models of
    pictures are always in memory together, because each picture is decoded once.

    Args:
        encoder: Both encoders. One that has no checkpoint, such as code of the user's own, was
            loaded when it was made.
        work: What is to be encoded.
        cache: Where the features will be stored.
        batch_size: Pictures per batch.

    Returns:
        Whether both fit together; else the one has to be freed before the other is used.

    Raises:
        CacheError: if the disk is too small for the features.
        ModelError: if the weights cannot be read from the Hub, do not fit the disk or the memory,
            or cannot be used.
    """
    features = work.feature_bytes(encoder.spec)
    require_room(cache, features, advice="Free some, give another --cache, or try --limit.")
    longest = max(map(len, encoder.plan.questions.values()), default=0)
    groups: list[list[tuple[Any, int]]] = []  # what is in memory at once
    if work.questions:
        groups.append([(encoder.text, TEXT_BATCH * longest)])
    if work.images:
        tokens = batch_size * math.prod(encoder.images.grid)
        groups.append([(one, tokens) for one in each_of(encoder.images)])
    return load_models(groups, cache, features)


def load_models(
    groups: Sequence[Sequence[tuple[Any, int]]], cache: Path, feature_bytes: int = 0
) -> bool:
    """Load models, each given with the tokens of its largest batch, as `settle_models` does."""
    groups = [[one for one in group if hasattr(one[0], "checkpoint")] for group in groups]
    known = [one for group in groups for one, _ in group]
    _require_disk(known, cache, feature_bytes)
    together = _fit_together(groups)
    for group in groups:  # the pictures' models last, which work first
        kept = [one for one, _ in group]
        for other in known if not together else ():
            if other not in kept:
                other.unload()
        for one in kept:
            one.weights  # noqa: B018  (it loads and checks them)
    return together


def _require_disk(encoders: Sequence[Any], cache: Path, feature_bytes: int) -> None:
    """Raise `ModelError` unless the weights can be fetched, and fit beside the features."""
    missing = {encoder.name: encoder.checkpoint.missing_bytes() for encoder in encoders}
    if not any(missing.values()):
        return
    from huggingface_hub import constants

    folder, need = Path(constants.HF_HUB_CACHE), sum(missing.values())
    names = " and ".join(name for name, count in missing.items() if count)
    beside = ""
    if _disk(folder) == _disk(cache):
        need, beside = need + feature_bytes, f" and the features {size(feature_bytes)}"
    if need > (free := free_bytes(folder)):
        raise ModelError(
            f"{folder}: the weights of {names} need {size(sum(missing.values()))}{beside}, but "
            f"{size(free)} are free on this disk. Free some, or set HF_HOME to a folder on another "
            f"disk."
        )


def _fit_together(groups: Sequence[Sequence[tuple[Any, int]]]) -> bool:
    """Return whether the memory takes all weights and the largest batch, or one group at a time.

    Raises:
        ModelError: if it does not take each group by itself.
    """
    encoders = [one for group in groups for one in group]
    waiting = [one for one, _ in encoders if "weights" not in vars(one)]  # not loaded yet
    if not waiting:
        return True
    device = torch.device(waiting[0].device)
    if (free := _free(device)) is None:
        return True
    needs = [  # of each group: models, of which two may have one name, their weights, a batch
        [
            (
                one,
                weight_bytes(one),
                tokens * NUMBERS_PER_TOKEN * _width(one) * one.compute_dtype.itemsize,
            )
            for one, tokens in group
        ]
        for group in groups
    ]
    every = [need for group in needs for need in group]
    if sum(own for one, own, _ in every if one in waiting) + max(n for *_, n in every) <= free:
        return True
    room = free + sum(own for one, own, _ in every if one not in waiting)
    for each in needs:
        own = sum(own for _, own, _ in each)
        batch = max((batch for *_, batch in each), default=0)
        if own + batch > room:
            quantised = any(hasattr(one, "quantize") for one, *_ in each)
            smaller = "--compute-dtype bfloat16" + (", --quantize" if quantised else "")
            raise ModelError(
                f"the weights of {_names(each)} need {size(own)} of memory, and a batch at least "
                f"{size(batch)}, but {size(room)} are free on {device}. Give a smaller model, "
                f"{smaller}, a smaller --batch-size, or another --device."
            )
    console.show(
        f"{_names(every)} do not fit the memory of {device} together: each is loaded when it is "
        f"needed and then freed, so one is read twice"
    )
    return False


def _names(needs: Sequence[tuple[Any, int, int]]) -> str:
    return " and ".join(one.name for one, *_ in needs)


def _width(encoder: Any) -> int:
    """Return the numbers of a token in one layer."""
    width: int = encoder.dim // len(getattr(encoder, "layers", (LAST,)))
    return width


def weight_bytes(encoder: Any) -> int:
    """Return the bytes that an encoder's weights take in memory."""
    count: int = encoder.checkpoint.count_weights(encoder.config)
    wide, kept = encoder.compute_dtype.itemsize, count
    kind: Quantize | None = getattr(encoder, "quantize", None)
    if kind is not None:
        kept = encoder.config.vocab_size * _width(encoder)  # the embeddings of tokens
    return kept * wide + int((count - kept) * (BYTES[kind] if kind else wide))


def _free(device: torch.device) -> int | None:
    """Return the bytes that are free for one rank; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = free_memory()
    return None if free is None else free // local_ranks()


def _disk(path: Path) -> int:
    """Return what tells disks apart; a folder need not exist yet."""
    there = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    return there.stat().st_dev
