"""The `extract-features` command: run stage one, or estimate its cost; show plan and result.

What is wrong with the data set is said before torch and the encoders are loaded.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from frozen_vqa.cache.format.parts import LAST
from frozen_vqa.cache.writer import require_own_cache
from frozen_vqa.pipeline.commands.check_data import show_checks, show_missing, show_narrow
from frozen_vqa.pipeline.encoders.checks.quantise import Quantize
from frozen_vqa.pipeline.encoders.model_name import require_model_name
from frozen_vqa.pipeline.encoders.own_model import is_own_model
from frozen_vqa.pipeline.encoders.picture_files.levels import Window
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.extract.data_check import (
    check_data,
    narrow_bits,
    require_pictures,
    splits_to_extract,
)
from frozen_vqa.pipeline.extract.decoder import LOOKED_AT
from frozen_vqa.pipeline.extract.models.several import each_of, for_each, require_squares
from frozen_vqa.pipeline.extract.origin import describe_origin
from frozen_vqa.pipeline.extract.plan import Plan, make_plan, merge_same_pictures, read_questions
from frozen_vqa.pipeline.extract.throughput import PhaseTimer
from frozen_vqa.pipeline.metrics.find import find_metric
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.system.console import console, duration, loading, size
from frozen_vqa.pipeline.system.device import choose_device, keep_freed_memory, use_cores
from frozen_vqa.pipeline.system.disk import free_bytes
from frozen_vqa.pipeline.system.ranks import torchrun_ranks

if TYPE_CHECKING:  # these import torch
    from frozen_vqa.pipeline.encoders.image_encoder import Fit, ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.extract.engines.on_ray import RayCluster
    from frozen_vqa.pipeline.extract.extract import Report
    from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
    from frozen_vqa.pipeline.extract.models.precision import ComputeDtype

SHOWN_FAILURES = 5
MEASURED, MOST_BATCHES, WORTH_SAYING = 4.0, 10_000, 0.5
"""Seconds of a dry run's sample, more for slow encoders; its most batches; the share of waiting
that is said."""


def extract_command(
    *,
    dataset: str,
    splits: Sequence[str],
    cache: Path,
    vision_models: Sequence[str],
    vision_revisions: Sequence[str] = (),
    vision_layers: Sequence[int] = (LAST,),
    text_model: str,
    text_revision: str | None = None,
    text_layers: Sequence[int] = (LAST,),
    compute_dtype: "ComputeDtype" = "auto",
    quantize: Quantize | None = None,
    image_sizes: Sequence[int | str] = (),
    fit: "Fit",
    window: Window | None,
    reduce_jpegs: bool,
    gpu_jpegs: bool = False,
    dtype: str,
    pool: int = 1,
    columns: Mapping[str, str],
    pictures: Path | None,
    annotations: Path | None = None,
    batch_size: int | None,
    device: str,
    limit: int | None,
    rebuild: Sequence[str],
    dry_run: bool,
    engine: Literal["process", "ray"] = "process",
    address: str | None = None,
    workers: int | None = None,
) -> dict[str, Any] | None:
    """Run stage one, or estimate its cost; None from every rank of `torchrun` but the first."""
    here = engine == "process" or bool(rebuild or dry_run)
    with torchrun_ranks() as ranks, _ray_cluster(here, address, device) as cluster:
        revisions = for_each("--vision-revision", vision_revisions, vision_models)
        if len(image_sizes) == 1:  # of all models
            image_sizes = [*image_sizes] * len(vision_models)
        sizes = for_each("--image-size", image_sizes, vision_models)
        for model in (*vision_models, text_model):
            if model != TINY and not is_own_model(model):
                require_model_name(model)
        if ranks.lead:
            require_own_cache(cache)
        where: dict[str, Path | None] = {"images": pictures, "annotations": annotations}
        source = open_source(dataset, columns=columns or None, **where)
        if metric := getattr(source, "metric", None):
            find_metric(metric)  # or say now that it has none of this name
        splits = splits or splits_to_extract(source, dataset)
        read = read_questions(source, splits)
        show_checks(checks := check_data(source, read, most=LOOKED_AT, limit=limit))
        if not rebuild:
            require_pictures(source, checks, cache, Reading(window))
            show_missing(checks)
            if window is None:
                show_narrow(narrow_bits(source, checks))
        with loading():
            from frozen_vqa.pipeline.extract.engines.engine import Engine
            from frozen_vqa.pipeline.extract.engines.worker import EncoderRecipe
            from frozen_vqa.pipeline.extract.extract import extract
            from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
            from frozen_vqa.pipeline.extract.models.open_encoders import show_moved
            from frozen_vqa.pipeline.extract.rebuild import rebuild as rebuild_shards
            from frozen_vqa.pipeline.extract.rebuild import show_rebuilt
        chosen: dict[str, Any] = {
            "vision_models": vision_models, "vision_revisions": revisions, "image_sizes": sizes,
            "vision_layers": vision_layers, "text_model": text_model, "text_layers": text_layers,
            "text_revision": text_revision, "compute_dtype": compute_dtype, "quantize": quantize,
            "fit": fit, "window": window, "reduce_jpegs": reduce_jpegs, "gpu_jpegs": gpu_jpegs,
        }  # fmt: skip
        recipe = EncoderRecipe(cache, chosen)
        images, text = recipe(choose_device("cpu" if cluster else device))
        require_squares(images, pool)
        if ranks.lead:
            named = zip((*each_of(images), text), (*revisions, text_revision), strict=True)
            show_moved(cache, [encoder for encoder, revision in named if not revision])
        plan = make_plan(source, splits=splits, text=text, limit=limit, read=read)
        show_plan(plan, images, text)
        if rebuild or dry_run:
            if not ranks.lead:
                return None
            plan = merge_same_pictures(plan, source) if dry_run else plan
            encoder = FeatureEncoder(source, plan, images, text, dtype, pool)
            if dry_run:
                return _estimate(encoder, cache=cache, batch_size=batch_size)
            rebuilt = rebuild_shards(encoder, rebuild, cache=cache, batch_size=batch_size)
            return show_rebuilt(rebuilt, cache)
        report = extract(
            source,
            plan,
            cache=cache,
            images=images,
            text=text,
            dtype=dtype,
            pool=pool,
            batch_size=batch_size,
            origin=describe_origin(
                dataset, columns, plan.splits, limit, batch_size, pictures, annotations
            ),
            ranks=ranks,
            engine=Engine(cluster, recipe.pinned(images, text), workers) if cluster else None,
        )
        show_report(report, cache)
        return report.to_json() if ranks.lead else None


def _ray_cluster(
    here: bool, address: str | None, device: str
) -> AbstractContextManager["RayCluster | None"]:
    if here:
        return nullcontext()
    from frozen_vqa.pipeline.extract.engines.on_ray import ray_cluster

    return ray_cluster(address, device)


def show_plan(plan: Plan, images: "ImageEncoder", text: "TextEncoder") -> None:
    """Print the plan and the two models."""
    splits = ", ".join(f"{name} {len(examples):,}" for name, examples in plan.splits.items())
    eyes = (
        f"{one.name}{_layers(one)}: {one.grid[0]} x {one.grid[1]} patches of {one.dim} numbers "
        f"from {one.sides[0]} x {one.sides[1]} pixels"
        for one in each_of(images)
    )
    console.print(
        f"{plan.question_count:,} questions ({splits}) about {len(plan.images):,} pictures",
        *eyes,
        f"{text.name}{_layers(text)}: {len(plan.questions):,} distinct questions, {plan.tokens:,} "
        f"tokens, {plan.prefixes:,} {'distinct prefixes' if plan.shared else 'states'} of "
        f"{text.dim} numbers",
        sep="\n",
    )
    if not plan.shared:
        console.show(
            f"{text.name} reads a question both ways: questions that begin alike share nothing, so "
            f"each is computed and stored by itself"
        )


def _layers(encoder: "ImageEncoder | TextEncoder") -> str:
    """Return which layers of an encoder are stored, if there are several."""
    layers: Sequence[int] = getattr(encoder, "layers", (LAST,))
    return f", layers {', '.join(map(str, layers))}" if len(layers) > 1 else ""


def show_report(report: "Report", cache: Path) -> None:
    """Print the result of stage one."""
    encoded, total = report.images["encoded"], report.images["total"]
    if report.failures:
        pictures, questions = report.images["skipped"], report.questions["skipped"]
        unusable = [f"{pictures:,} pictures cannot be read"] if pictures else []
        unusable += [f"{questions:,} questions cannot be used"] if questions else []
        console.show(f"{' and '.join(unusable)}; {report.left_out:,} questions are left out:")
        for failure in report.failures[:SHOWN_FAILURES]:
            console.show(f"  {failure.where}: {failure.reason}")
        if len(report.failures) > SHOWN_FAILURES:
            console.show(f"  and {len(report.failures) - SHOWN_FAILURES:,} more")
        console.show(f"all are listed in {cache / 'failures.jsonl'}")
    if encoded:
        done = f"{encoded:,} of {total:,} pictures encoded in {duration(report.seconds)}"
    else:
        done = "nothing to encode: every readable picture is in the cache"
    console.show(f"{done}; {cache} has {size(report.bytes)}")
    if report.extraction:
        console.show(str(report.extraction))


def _estimate(encoder: "FeatureEncoder", *, cache: Path, batch_size: int | None) -> dict[str, Any]:
    """Extract a sample, and report the bytes and the time that everything needs."""
    plan = encoder.plan
    need, free = plan.feature_bytes(encoder.spec), free_bytes(cache)
    encoder.decoder.first_pixels(plan.images)  # or say that there is none
    keep_freed_memory()
    use_cores()
    seconds, waiting = _time_pictures(encoder, batch_size)
    encoder.images.unload()  # both may not fit the memory
    seconds += _time_questions(encoder)
    limit = f"; decoding is the limit, for which the encoder waits {waiting:.0%} of the time"
    console.show(
        f"dry run: {size(need)} of features ({size(free)} are free on that disk), about "
        f"{duration(seconds)} of decoding and encoding{limit if waiting > WORTH_SAYING else ''}; "
        f"nothing was written"
    )
    return {
        "dry_run": True,
        "images": plan.picture_counts(),
        "questions": plan.counts() | {"skipped": sum(map(len, plan.left_out.values()))},
        "bytes": need,
        "free_bytes": free,
        "estimated_seconds": round(seconds, 1),
    }


def _time_pictures(encoder: "FeatureEncoder", batch_size: int | None) -> tuple[float, float]:
    """Return the seconds for all pictures, and the share in which the encoder waits for them.

    A sample goes through what an extraction does, all at once: threads decode, the encoder works,
    and a thread builds what would be stored. On few cores these slow each other down.
    """
    from frozen_vqa.pipeline.extract.batch_size import BatchSize, default_batch_size
    from frozen_vqa.pipeline.extract.extract import SHARD_BYTES

    batch = batch_size or default_batch_size(encoder.images.device)
    images, timer = encoder.plan.images, PhaseTimer()
    # From all over the data set, whose pictures may be sorted.
    starts = np.random.default_rng(0).permutation(np.arange(0, len(images), batch))
    chunks = [images[first : first + batch] for first in starts[:MOST_BATCHES].tolist()]
    first, *others = chunks if len(chunks) > 1 else chunks * 2
    encoded = encoder.encode_images([first, *others], BatchSize(batch), timer)
    batches_of_a_shard = max(1, SHARD_BYTES // encoder.spec.image_row_bytes // batch)
    began, done, shard = time.perf_counter(), 0, None
    with ThreadPoolExecutor(1) as shards, closing(encoded):
        next(encoded)  # includes loading and set-up
        ready, waited = time.perf_counter(), timer.seconds["waiting"]
        for number, (chunk, features) in enumerate(zip(others, encoded, strict=False)):
            if number % batches_of_a_shard == 0:  # each costs as much as a large one, nearly
                if shard:
                    shard.result()
                shard = shards.submit(features.to_shard, encoder.spec, {})
            done += len(chunk)
            if time.perf_counter() - ready > MEASURED:
                break
        seconds = time.perf_counter() - ready
        waited = timer.seconds["waiting"] - waited
    left = max(0, len(images) - len(first))
    return ready - began + seconds / done * left, waited / seconds


def _time_questions(encoder: "FeatureEncoder") -> float:
    """Return the seconds for all distinct questions."""
    from frozen_vqa.pipeline.extract.feature_encoder import TEXT_BATCH

    questions = encoder.plan.questions.values()
    lengths = sorted(map(len, questions))
    usual = next(one for one in questions if len(one) == lengths[len(lengths) // 2])
    tokens = [usual] * min(TEXT_BATCH, len(questions))
    began = time.perf_counter()
    encoder.text.encode(tokens).cpu()  # includes loading and set-up
    ready = time.perf_counter()
    encoder.text.encode(tokens).cpu()
    seconds = time.perf_counter() - ready
    left = (len(questions) - len(tokens)) / len(tokens)
    if encoder.text.encodes_trees:  # what questions have in common is computed once
        left *= encoder.plan.prefixes / sum(lengths)
    return ready - began + seconds * left
