"""The cost of an extraction, found without writing anything: `extract-features --dry-run`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.pipeline.extract.feature_encoder import TEXT_BATCH, FeatureEncoder
from frozen_vqa.pipeline.system.console import console, duration, size
from frozen_vqa.pipeline.system.disk import free_bytes


def estimate(encoder: FeatureEncoder, *, cache: Path, batch_size: int) -> dict[str, Any]:
    """Time one batch of each encoder, and report the bytes and the time that all of them need.

    Raises:
        SourceError: if no picture at all can be read.
    """
    plan, images, text = encoder.plan, encoder.images, encoder.text
    need = plan.feature_bytes(encoder.spec)
    free = free_bytes(cache)
    pixels = np.stack([encoder.decoder.decode_first(plan.images).pixels] * batch_size)
    questions = sorted(plan.questions.values(), key=len)
    tokens = [questions[len(questions) // 2]] * min(TEXT_BATCH, len(questions))
    seconds = _time(lambda: images.encode(pixels)[0].cpu()) / len(pixels) * len(plan.images)
    seconds += _time(lambda: text.encode(tokens).cpu()) / len(tokens) * len(questions)
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


def _time(work: Callable[[], object]) -> float:
    work()  # the first call includes loading and set-up
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
