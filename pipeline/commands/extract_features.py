"""The `extract-features` command: run stage one, or estimate its cost; show plan and result.

What is wrong with the data set is said before torch and the encoders are loaded.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.writer import require_own_cache
from frozen_vqa.pipeline.encoders.checkpoint import require_model_name
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.extract.decoder import count_missing, first_readable
from frozen_vqa.pipeline.extract.origin import describe_origin
from frozen_vqa.pipeline.extract.plan import Plan, Read, make_plan, read_questions
from frozen_vqa.pipeline.sources.example import Source
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.system.console import console, duration, size
from frozen_vqa.pipeline.system.device import choose_device, encoder_dtype
from frozen_vqa.pipeline.system.disk import free_bytes
from frozen_vqa.pipeline.system.ranks import torchrun_ranks

if TYPE_CHECKING:  # these import torch
    from frozen_vqa.pipeline.encoders.image_encoder import Fit, ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.extract.extract import Report
    from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder

SHOWN_FAILURES = 5
OTHER_BYTES = (
    "not the same bytes as before: another device or library rounds otherwise, and so did a "
    "conversion from float16"
)


def extract_command(
    *,
    dataset: str,
    splits: Sequence[str],
    cache: Path,
    vision_model: str,
    text_model: str,
    text_layer: int,
    image_size: int | None,
    fit: "Fit",
    dtype: str,
    columns: Mapping[str, str],
    batch_size: int | None,
    device: str,
    limit: int | None,
    rebuild: Sequence[str],
    dry_run: bool,
) -> dict[str, Any] | None:
    """Run stage one, or estimate its cost; None from every rank of `torchrun` but the first."""
    with torchrun_ranks() as ranks:
        for model in (vision_model, text_model):
            if model != TINY:
                require_model_name(model)
        if ranks.lead:
            require_own_cache(cache)
        source = open_source(dataset, columns=columns or None)
        read = read_questions(source, splits)
        show_read(read)
        if not rebuild:
            look_at_pictures(source, read, cache, limit)

        from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
        from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
        from frozen_vqa.pipeline.extract.extract import extract
        from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
        from frozen_vqa.pipeline.extract.rebuild import rebuild as rebuild_shards

        place = choose_device(device)
        compute = encoder_dtype(place)
        images = ImageEncoder(
            vision_model, image_size=image_size, fit=fit, device=place, compute_dtype=compute
        )
        text = TextEncoder(text_model, layer=text_layer, device=place, compute_dtype=compute)
        plan = make_plan(source, splits=splits, text=text, limit=limit, read=read)
        show_plan(plan, images, text)
        if rebuild or dry_run:
            if not ranks.lead:
                return None
            encoder = FeatureEncoder(source, plan, images, text, dtype)
            if dry_run:
                return _estimate(encoder, cache=cache, batch_size=batch_size)
            rebuilt = rebuild_shards(encoder, rebuild, cache=cache, batch_size=batch_size)
            return _show_rebuilt(rebuilt, cache)
        report = extract(
            source,
            plan,
            cache=cache,
            images=images,
            text=text,
            dtype=dtype,
            batch_size=batch_size,
            origin=describe_origin(dataset, columns, plan.splits, limit, batch_size),
            ranks=ranks,
        )
        show_report(report, cache)
        return report.to_json() if ranks.lead else None


def show_read(read: Read) -> None:
    """Print how many questions cannot be used, and why; name splits without answers."""
    for name, (examples, _) in read.items():
        if examples and not any(example.answers for example in examples):
            console.print(f"split {name!r}: no question has an answer")
    unusable = [fault for _, faults in read.values() for fault in faults]
    if unusable:
        console.print(
            f"{len(unusable):,} questions cannot be used; the first is {unusable[0].where}: "
            f"{unusable[0].reason}"
        )


def look_at_pictures(source: Source, read: Read, cache: Path, limit: int | None) -> None:
    """Print how many pictures are missing; raise `SourceError` if a new cache would get none."""
    examples = (example for found, _ in read.values() for example in found[:limit])
    image_ids = list(dict.fromkeys(example.image_id for example in examples))
    if not (cache / "cache.json").exists():  # what is stored needs no picture any more
        first_readable(source, image_ids, lambda image_id: load_rgb(source.picture(image_id)))
    looked, missing, where = count_missing(source, image_ids)
    if missing:
        console.print(
            f"{missing:,} of the {looked:,} pictures that were looked for are missing, such as "
            f"{where}"
        )


def show_plan(plan: Plan, images: "ImageEncoder", text: "TextEncoder") -> None:
    """Print the plan and the two models."""
    splits = ", ".join(f"{name} {len(examples):,}" for name, examples in plan.splits.items())
    console.print(
        f"{plan.question_count:,} questions ({splits}) about {len(plan.images):,} pictures",
        f"{images.name}: {images.grid[0]} x {images.grid[1]} patches of {images.dim} numbers from "
        f"{images.image_size} x {images.image_size} pixels",
        f"{text.name}: {len(plan.questions):,} distinct questions, {plan.tokens:,} tokens, "
        f"{plan.prefixes:,} distinct prefixes of {text.dim} numbers",
        sep="\n",
    )


def show_report(report: "Report", cache: Path) -> None:
    """Print the result of stage one."""
    encoded, total = report.images["encoded"], report.images["total"]
    if report.failures:
        pictures, questions = report.images["skipped"], report.questions["skipped"]
        unusable = [f"{pictures:,} pictures cannot be read"] if pictures else []
        unusable += [f"{questions:,} questions cannot be used"] if questions else []
        console.print(f"{' and '.join(unusable)}; {report.left_out:,} questions are left out:")
        for failure in report.failures[:SHOWN_FAILURES]:
            console.print(f"  {failure.where}: {failure.reason}")
        if len(report.failures) > SHOWN_FAILURES:
            console.print(f"  and {len(report.failures) - SHOWN_FAILURES:,} more")
        console.print(f"all are listed in {cache / 'failures.jsonl'}")
    if encoded:
        done = f"{encoded:,} of {total:,} pictures encoded in {duration(report.seconds)}"
    else:
        done = "nothing to encode: every readable picture is in the cache"
    console.print(f"{done}; {cache} has {size(report.bytes)}")
    if report.extraction:
        console.print(str(report.extraction))


def _estimate(encoder: "FeatureEncoder", *, cache: Path, batch_size: int | None) -> dict[str, Any]:
    """Time one batch of each encoder, and report the bytes and the time that all of them need."""
    from frozen_vqa.pipeline.extract.batch_size import default_batch_size
    from frozen_vqa.pipeline.extract.feature_encoder import TEXT_BATCH

    batch = batch_size or default_batch_size(encoder.images.device)
    plan, images, text = encoder.plan, encoder.images, encoder.text
    need, free = plan.feature_bytes(encoder.spec), free_bytes(cache)
    pixels = np.stack([encoder.decoder.first_pixels(plan.images)] * batch)
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
        "questions": plan.counts() | {"skipped": sum(map(len, plan.left_out.values()))},
        "bytes": need,
        "free_bytes": free,
        "estimated_seconds": round(seconds, 1),
    }


def _time(work: Callable[[], object]) -> float:
    work()  # the first call includes loading and set-up
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _show_rebuilt(rebuilt: Sequence[Mapping[str, Any]], cache: Path) -> dict[str, Any]:
    for shard in rebuilt:
        same = "the same bytes as before" if shard["same_bytes"] else OTHER_BYTES
        console.print(f"{path_in(cache, shard['file'])}: {shard['rows']:,} rows made again, {same}")
    return {"cache": str(cache), "rebuilt": list(rebuilt)}
