"""Both models are settled before the first picture is encoded: access, disk, memory, weights.

Encoding the pictures may take hours. Whatever is wrong with the model of the questions is said
before, too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.chunks import MissingWork
from frozen_vqa.pipeline.extract.feature_encoder import TEXT_BATCH, FeatureEncoder
from frozen_vqa.pipeline.system.console import size
from frozen_vqa.pipeline.system.device import free_memory
from frozen_vqa.pipeline.system.disk import free_bytes, require_room

NUMBERS_PER_TOKEN = 8
"""Numbers for each of a token's own that a layer keeps at once: four of the MLP, and its input,
query, key and value. It is the least that any of these models needs."""


def settle_models(encoder: FeatureEncoder, work: MissingWork, cache: Path, batch_size: int) -> None:
    """Load the models that have work to do, once it is clear that everything fits.

    Args:
        encoder: Both encoders. One that has no checkpoint, such as code of the user's own, was
            loaded when it was made.
        work: What is to be encoded.
        cache: Where the features will be stored.
        batch_size: Pictures per batch.

    Raises:
        CacheError: if the disk is too small for the features.
        ModelError: if the weights cannot be read from the Hub, do not fit the disk or the memory,
            or cannot be used.
    """
    features = work.feature_bytes(encoder.spec)
    require_room(cache, features, advice="Free some, give another --cache, or try --limit.")
    longest = max(map(len, encoder.plan.questions.values()), default=0)
    used: list[tuple[Any, int]] = []
    if work.questions:
        used.append((encoder.text, TEXT_BATCH * longest))
    if work.images:
        used.append((encoder.images, batch_size * encoder.spec.patches))
    load_models(used, cache, features)


def load_models(used: Sequence[tuple[Any, int]], cache: Path, feature_bytes: int = 0) -> None:
    """Load models, each given with the tokens of its largest batch, if they fit disk and memory."""
    known = [(one, tokens) for one, tokens in used if hasattr(one, "checkpoint")]
    _require_disk([one for one, _ in known], cache, feature_bytes)
    _require_memory(known)
    for one, _ in known:
        one.weights  # noqa: B018  (it loads and checks them)


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


def _require_memory(encoders: Sequence[tuple[Any, int]]) -> None:
    """Raise `ModelError` if the memory is too small for the weights and the largest batch."""
    waiting = [one for one in encoders if "weights" not in vars(one[0])]  # not loaded yet
    if not waiting:
        return
    device = torch.device(waiting[0][0].device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    needs = {
        encoder.name: encoder.checkpoint.count_weights(encoder.config)
        * encoder.compute_dtype.itemsize
        for encoder, _ in waiting
    }
    batch = max(
        tokens * NUMBERS_PER_TOKEN * encoder.config.hidden_size * encoder.compute_dtype.itemsize
        for encoder, tokens in encoders
    )
    if free is not None and sum(needs.values()) + batch > free:
        raise ModelError(
            f"the weights of {' and '.join(needs)} need {size(sum(needs.values()))} of memory, and "
            f"a batch at least {size(batch)}, but {size(free)} are free on {device}. Give smaller "
            f"models, --compute-dtype bfloat16, a smaller --batch-size, or another --device."
        )


def _disk(path: Path) -> int:
    """Return what tells disks apart; a folder need not exist yet."""
    there = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    return there.stat().st_dev
