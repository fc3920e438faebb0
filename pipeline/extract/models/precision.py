"""In which floating-point type the picture model computes, and how far that is from float32.

float16 keeps 11 bits and ends at 65,504; bfloat16 keeps 8 and ends where float32 does. Patch
embeddings of DINOv2 in float16 are 0.13 to 0.29 % from those of float32, in bfloat16 1 to 2.4 %
(relative L2). So float16 is taken on a GPU if the first pictures come out finite.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from frozen_vqa.cache import CacheError, load_manifest
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ImageError, ModelError
from frozen_vqa.pipeline.extract.decoder import PictureDecoder
from frozen_vqa.pipeline.extract.models.several import each_of
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.sources.example import Source
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import encoder_dtype
from frozen_vqa.pipeline.system.ranks import Ranks

ComputeDtype = Literal["auto", "float32", "bfloat16", "float16"]
NAMES = get_args(ComputeDtype)[1:]
SAMPLE, LOOKED_AT = 16, 64
"""Pictures that the drift is measured on, and how many are tried for them."""
PARTS = 1e9
"""A drift travels among ranks as a whole number of this part."""


def compute_dtypes(
    asked: ComputeDtype, recorded: object, device: torch.device
) -> tuple[torch.dtype, ...]:
    """Return the types that pictures are tried to be computed in, the best one first.

    Args:
        asked: What the user said; "auto" is what is recorded, if anything is.
        recorded: The "compute dtype" of a cache that is extended, or None.
    """
    name = recorded if asked == "auto" else asked
    if name in NAMES:
        return (getattr(torch, str(name)),)
    if device.type != "cuda":
        return (torch.float32,)
    return tuple(dict.fromkeys((torch.float16, encoder_dtype(device), torch.float32)))


def text_dtype(asked: ComputeDtype, recorded: object, device: torch.device) -> torch.dtype:
    """Return the type that questions are computed in.

    Llama 3 is published in bfloat16, and a few numbers of its states are too large for float16.
    """
    name = recorded if asked == "auto" else asked
    return getattr(torch, str(name)) if name in NAMES else encoder_dtype(device)


def settle_precision(
    source: Source,
    plan: Plan,
    images: ImageEncoder,
    text: TextEncoder,
    cache: Path,
    ranks: Ranks,
) -> dict[str, Json]:
    """Choose the first type of each encoder of pictures that is finite on the first ones.

    Returns:
        For the origin of its features, "drift": the relative L2 distance of patch embeddings from
        those of float32; or "drifts", that of each of several encoders by its name. Nothing for
        float32 itself, for code of the user's own, and where no picture can be read. A cache that
        has pictures keeps what it has recorded.

    Raises:
        ModelError: if no type is finite, or the weights cannot be loaded.
    """
    each = each_of(images)
    if all(_types(one) in ((), (torch.float32,)) for one in each):
        return {}
    with suppress(CacheError):
        if stored := load_manifest(cache).images:
            known = stored[-1].origin
            return {key: known[key] for key in ("drift", "drifts") if key in known}
    found = {one.name: _settle(one, each, source, plan, text, ranks) for one in each}
    drifts = {name: drift for name, drift in found.items() if drift is not None}
    if len(each) > 1:
        return {"drifts": drifts} if drifts else {}
    return {"drift": drifts[images.name]} if drifts else {}


def _settle(
    images: ImageEncoder,
    each: Sequence[ImageEncoder],
    source: Source,
    plan: Plan,
    text: TextEncoder,
    ranks: Ranks,
) -> float | None:
    """Choose the type of one encoder of pictures; return its drift if there is one."""
    dtypes = _types(images)
    if dtypes in ((), (torch.float32,)):
        return None
    index, drift = 0, -1.0
    if ranks.lead and (sample := _sample(source, plan, images)) is not None:
        for encoder in (*each, text):
            if checkpoint := getattr(encoder, "checkpoint", None):
                checkpoint.missing_bytes()  # or say now that there is no access
        index, drift = _choose(images, sample)
    index, parts = ranks.agree(index), ranks.agree(round(drift * PARTS))
    images.compute_in(dtypes[index])
    return None if parts < 0 or dtypes[index] == torch.float32 else parts / PARTS


def _types(images: ImageEncoder) -> tuple[torch.dtype, ...]:
    """Return the types that an encoder may compute in; none for code of the user's own."""
    return tuple(getattr(images, "dtypes", ()))


def relative_distance(found: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the L2 norm of the difference over that of the reference; infinity if not finite."""
    found, reference = found.double(), reference.double()
    if not torch.isfinite(found).all():
        return float("inf")
    return float((found - reference).norm() / reference.norm().clamp(min=1e-30))


def _choose(images: ImageEncoder, sample: np.ndarray) -> tuple[int, float]:
    """Return which of the encoder's types is the first that is finite, and its drift."""
    images.compute_in(torch.float32)
    reference = images.encode(sample)[0].cpu()
    for index, dtype in enumerate(images.dtypes):
        images.compute_in(dtype)
        drift = relative_distance(images.encode(sample)[0].cpu(), reference)
        name = str(dtype).removeprefix("torch.")
        if drift < float("inf"):
            drift = float(f"{drift:.3g}")  # another machine may round the rest otherwise
            console.show(
                f"{images.name} computes in {name}: patch embeddings are {drift:.2%} (relative L2) "
                f"from those of float32, measured on {len(sample)} pictures"
            )
            return index, drift
        console.show(f"{images.name} is not finite in {name}, measured on {len(sample)} pictures")
    raise ModelError(
        f"{images.name}: patch embeddings of the first {len(sample)} pictures are not finite in "
        f"{name}; use --compute-dtype float32, or take another copy of the model"
    )


def _sample(source: Source, plan: Plan, images: ImageEncoder) -> np.ndarray | None:
    """Return the pixels of the first pictures that can be read, or None."""
    decoder = PictureDecoder(source, images)

    def readable() -> Iterator[np.ndarray]:
        for image_id in plan.images[:LOOKED_AT]:
            with suppress(ImageError):
                yield decoder.decode(image_id).pixels

    found = list(islice(readable(), SAMPLE))
    return np.stack(found) if found else None
