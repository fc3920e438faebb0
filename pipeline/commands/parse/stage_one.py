"""`extract-features`, and what comes before it."""

from pathlib import Path
from typing import Annotated

import typer

from frozen_vqa.pipeline.commands.parse import extraction
from frozen_vqa.pipeline.commands.parse.extraction import TEXT_MODEL, VISION_MODEL
from frozen_vqa.pipeline.commands.parse.finish import finish, folder_to_write
from frozen_vqa.pipeline.commands.parse.shared import (
    DATA,
    Annotations,
    CacheOrUrl,
    Column,
    Device,
    Images,
    Json,
    Prometheus,
    Quiet,
    Stage,
    Window,
)
from frozen_vqa.pipeline.commands.parse.words import (
    path_option,
    to_batch_size,
    to_columns,
    to_dataset,
)


def extract_features(
    dataset: extraction.Dataset,
    cache: CacheOrUrl,
    split: extraction.Split = None,
    vision_model: extraction.VisionModel = None,
    vision_revision: extraction.VisionRevision = None,
    vision_layer: extraction.VisionLayer = None,
    text_model: extraction.TextModel = TEXT_MODEL,
    text_revision: extraction.TextRevision = None,
    text_layer: extraction.TextLayer = None,
    compute_dtype: extraction.ComputeDtype = "auto",
    quantize: extraction.Quantize = None,
    image_size: extraction.ImageSize = None,
    fit: extraction.Fit = "whole",
    window: Window = None,
    reduce_jpegs: extraction.ReduceJpegs = False,
    gpu_jpegs: extraction.GpuJpegs = False,
    dtype: extraction.Dtype = "float16",
    pool: extraction.Pool = "1",
    column: Column = None,
    images: Images = None,
    annotations: Annotations = None,
    batch_size: extraction.BatchSize = "auto",
    device: Device = "auto",
    limit: extraction.Limit = None,
    rebuild: extraction.Rebuild = None,
    dry_run: extraction.DryRun = False,
    stage: Stage = None,
    engine: extraction.Engine = "process",
    address: extraction.Address = None,
    workers: extraction.Workers = None,
    prometheus: Prometheus = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stage one: run both frozen encoders once and store their features. Resumes by itself."""
    from frozen_vqa.pipeline.commands.extract_features import extract_command
    from frozen_vqa.pipeline.watch.prometheus import prometheus_file

    if engine != "ray" and (address, workers) != (None, None):
        raise typer.BadParameter("--address and --workers are for --engine ray; add it")
    if gpu_jpegs and (reduce_jpegs or engine == "ray"):
        raise typer.BadParameter(
            "--gpu-jpegs goes with neither --reduce-jpegs nor --engine ray; leave one out"
        )
    if not isinstance(cache, Path) and (dry_run or rebuild):
        raise typer.BadParameter("--dry-run and --rebuild take the folder of a cache, not a URL")
    watched = prometheus_file(prometheus, "extract-features", cache)
    with watched, folder_to_write(cache, stage) as folder:
        result = extract_command(
            dataset=dataset,
            splits=split or [],
            cache=folder,
            vision_models=vision_model or [VISION_MODEL],
            vision_revisions=vision_revision or [],
            vision_layers=vision_layer or [-1],
            text_model=text_model,
            text_revision=text_revision,
            text_layers=text_layer or [-1],
            compute_dtype=compute_dtype,
            quantize=quantize,
            image_sizes=image_size or [],
            fit=fit,
            window=window,
            reduce_jpegs=reduce_jpegs,
            gpu_jpegs=gpu_jpegs,
            dtype=dtype,
            pool=int(pool),
            columns=to_columns(column or []),
            pictures=images,
            annotations=annotations,
            batch_size=to_batch_size(batch_size),
            device=device,
            limit=limit,
            rebuild=rebuild or [],
            dry_run=dry_run,
            engine=engine,
            address=address,
            workers=workers,
        )
    if result is not None:  # the first rank of torchrun, or the only one
        finish(result, as_json, left_out=bool(result.get("failures")))


def download(
    name: Annotated[
        str,
        typer.Argument(
            help="vqav2, okvqa, aokvqa, textvqa, gqa, vizwiz, clevr, tallyqa, visual7w, slake, "
            "scienceqa, nlvr2; pictures of several: coco2014, coco2015, coco2017, visual-genome."
        ),
    ],
    to: Annotated[Path, path_option(help="Folder for the files; nothing in it is replaced.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a data set that its owners let anybody fetch. Goes on where it was cut."""
    from frozen_vqa.pipeline.download.command import download_command

    finish(download_command(name, to=to), as_json)


def check_data(
    dataset: Annotated[
        str,
        typer.Argument(parser=to_dataset, help=DATA),
    ],
    split: Annotated[
        list[str] | None, typer.Option(help="Split to check; repeat for several (default: all).")
    ] = None,
    column: Column = None,
    images: Images = None,
    annotations: Annotations = None,
    sheet: Annotated[
        Path | None, path_option(help="Also draw some pictures with their questions to this PNG.")
    ] = None,
    window: Window = None,
    as_json: Json = False,
) -> None:
    """Show what a data set has and what would be left out; this needs no model."""
    from frozen_vqa.pipeline.commands.check_data import check_data_command

    result = check_data_command(
        dataset=dataset,
        splits=split or [],
        columns=to_columns(column or []),
        pictures=images,
        annotations=annotations,
        sheet=sheet,
        window=window,
    )
    some = any(one["left_out"] or one["missing"] for one in result["splits"])
    finish(result, as_json, left_out=some or bool(result["refused"]))
