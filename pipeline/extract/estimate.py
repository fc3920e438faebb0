"""What stage one would cost, found out without writing anything: `extract-features --dry-run`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from frozen_vqa.pipeline.encoders.encoders import ImageEncoder, TextEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError, SourceError
from frozen_vqa.pipeline.extract.extract import cache_spec, expected_bytes
from frozen_vqa.pipeline.extract.plan import Plan
from frozen_vqa.pipeline.extract.questions import TEXT_BATCH
from frozen_vqa.pipeline.sources.example import Source
from frozen_vqa.pipeline.system.console import console, duration, size
from frozen_vqa.pipeline.system.disk import free_bytes


def estimate(
    source: Source,
    plan: Plan,
    *,
    cache: Path,
    images: ImageEncoder,
    text: TextEncoder,
    dtype: str,
    batch_size: int,
) -> dict[str, Any]:
    """Time one batch of each encoder and say what everything would need.

    Raises:
        SourceError: if no picture at all can be read.
    """
    need = expected_bytes(plan, cache_spec(images, text, dtype))
    free = free_bytes(cache)
    pixels = np.stack([images.pixels(_first_readable(source, plan))] * batch_size)
    lengths = sorted(plan.questions.values(), key=len)
    tokens = [lengths[len(lengths) // 2]] * min(TEXT_BATCH, len(lengths))
    seconds = _seconds(lambda: images.encode(pixels)[0].cpu()) / len(pixels) * len(plan.images)
    seconds += _seconds(lambda: text.encode(tokens).cpu()) / len(tokens) * len(lengths)
    console.print(
        f"dry run: {size(need)} of features ({size(free)} are free on that disk), about "
        f"{duration(seconds)} of encoding; nothing was written"
    )
    return {
        "dry_run": True,
        "images": {"total": len(plan.images)},
        "questions": plan.counts(),
        "bytes": need,
        "free_bytes": free,
        "estimated_seconds": round(seconds, 1),
    }


def _seconds(work: Callable[[], object]) -> float:
    work()  # the first call pays for loading and set-up
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _first_readable(source: Source, plan: Plan) -> Image.Image:
    reason = ""
    for image_id in plan.images:
        try:
            return load_rgb(source.picture(image_id))
        except ImageError as error:
            reason = reason or f"{source.where(image_id)}: {error}"
    raise SourceError(f"none of {len(plan.images):,} pictures can be read; the first, {reason}")
