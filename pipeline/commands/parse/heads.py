"""`train-head`, and the scores of what it trained."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from frozen_vqa.pipeline.commands.parse import training
from frozen_vqa.pipeline.commands.parse.finish import finish, folder_of
from frozen_vqa.pipeline.commands.parse.shared import (
    Device,
    Json,
    Metric,
    OwnFusion,
    Prometheus,
    Quiet,
    RunPath,
    Stage,
)
from frozen_vqa.pipeline.commands.parse.words import path_option, to_place


def train_head(
    run: RunPath,
    cache: training.Cache = None,
    config: training.Config = None,
    sweep: training.Sweep = None,
    preset: training.Preset = None,
    vision: training.Vision = None,
    text_layer: training.TextLayer = None,
    fusion: training.Fusion = None,
    layers: training.Layers = None,
    width: training.Width = None,
    epochs: training.Epochs = None,
    patience: training.Patience = None,
    batch_size: training.BatchSize = None,
    accumulate: training.Accumulate = None,
    lr: training.Lr = None,
    ema: training.Ema = None,
    seed: training.Seed = None,
    order_seed: training.OrderSeed = None,
    group_by_image: training.GroupByImage = None,
    min_answer_count: training.MinAnswerCount = None,
    answers: training.Answers = None,
    train_split: training.TrainSplit = None,
    val_split: training.ValSplit = None,
    val_fraction: training.ValFraction = None,
    metric: Metric = None,
    keep: training.Keep = None,
    resume: training.Resume = False,
    overwrite: training.Overwrite = False,
    residency: training.Residency = "auto",
    stage: Stage = None,
    tensorboard: training.Tensorboard = False,
    prometheus: Prometheus = None,
    report: training.Report = True,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stage two: train the projections, cross-attention and answer head from the cache."""
    from frozen_vqa.pipeline.commands.train_head import train_command
    from frozen_vqa.pipeline.watch.prometheus import prometheus_file

    if sweep and config:
        raise typer.BadParameter("--sweep and --config both name a file of settings; give only one")
    if not cache and not resume:
        raise typer.BadParameter("name the feature cache: train-head CACHE --run RUN")
    if resume and overwrite:
        raise typer.BadParameter("--resume continues a run, --overwrite replaces it; give only one")
    settings = {
        "preset": preset,
        "vision": "+".join(vision) if vision else None,
        "text_layer": "+".join(text_layer) if text_layer else None,
        "fusion": fusion,
        "layers": layers,
        "width": width,
        "epochs": epochs,
        "patience": patience,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "lr": lr,
        "ema": ema,
        "seed": seed,
        "order_seed": order_seed,
        "group_by_image": group_by_image,
        "min_answer_count": min_answer_count,
        "answers_file": str(answers) if answers else None,
        "metric": metric,
        "train_split": train_split,
        "val_split": val_split,
        "val_fraction": val_fraction,
        "keep": keep,
    }
    with prometheus_file(prometheus, "train-head", run):
        result = train_command(
            cache=folder_of(cache, stage) if cache else None,
            run=run,
            config=config,
            sweep=sweep,
            settings=settings,
            overwrite=overwrite,
            resume=resume,
            residency=residency,
            tensorboard=tensorboard,
            report=report,
            device=device,
        )
    if result:  # None from all ranks of torchrun but the first
        finish(result, as_json, left_out=bool(result.get("failed")))


def evaluate(
    run: Annotated[
        list[Path],
        path_option(help="Folder of the trained head; repeat for runs that differ by their seed."),
    ],
    cache: Annotated[
        Path | None,
        typer.Option(
            parser=to_place,
            metavar="PATH",
            help="Feature cache, or its URL (default: that of the training).",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to answer (default: the validation split).")
    ] = None,
    compare: Annotated[
        list[Path] | None, path_option(help="Another run to compare with; repeat for several.")
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        path_option(help="Also average the probabilities of --run and this; repeat for several."),
    ] = None,
    shuffle_images: Annotated[
        bool, typer.Option("--shuffle-images", help="Also ask each question about a wrong picture.")
    ] = False,
    cluster_by: Annotated[
        Literal["image", "folder", "question"],
        typer.Option(help="What intervals and tests take as drawn at random, with its questions."),
    ] = "image",
    save_logits: Annotated[
        bool, typer.Option("--save-logits", help="Also write the logits of every question.")
    ] = False,
    table: Annotated[
        Path | None, path_option(help="Also write a table for a paper: FILE.md or FILE.tex.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also write report.html: plots, and where the head looks."),
    ] = False,
    metric: Metric = None,
    fusion: OwnFusion = None,
    stage: Stage = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a trained head, write its answers, and compare it with other heads."""
    from frozen_vqa.pipeline.commands.evaluate import evaluate_command

    if ensemble and len(run) > 1:
        raise typer.BadParameter("--ensemble takes a single --run; repeat --ensemble for more runs")
    result = evaluate_command(
        runs=run,
        cache=folder_of(cache, stage) if cache else None,
        split=split,
        compare_with=compare or [],
        ensemble_with=ensemble or [],
        shuffle_images=shuffle_images,
        save_logits=save_logits,
        table=table,
        report=report,
        metric=metric,
        cluster_by=cluster_by,
        device=device,
    )
    finish(result, as_json)


def score(
    predictions: Annotated[Path, path_option(help="Results file in the official form.")],
    annotations: Annotated[Path, path_option(help="Official annotation file.")],
    questions: Annotated[
        Path | None,
        path_option(
            help="Official question file of VQAv2's form, to check that all files match; of GQA "
            "the file of choices."
        ),
    ] = None,
    metric: Metric = None,
    per_question: Annotated[
        Path | None, path_option(help="Also write the score of each question to this JSON file.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a results file as the official script of its data set does; this needs no run."""
    from frozen_vqa.pipeline.commands.score import score_command

    result = score_command(
        predictions=predictions,
        annotations=annotations,
        questions=questions,
        metric=metric,
        per_question=per_question,
    )
    finish(result, as_json)


def runs(
    folder: Annotated[Path, path_option(help="Folder that holds runs, at any depth to 4.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the heads in a folder with their scores, the best first."""
    from frozen_vqa.pipeline.commands.list_runs import list_command

    result = list_command(folder)
    finish(result, as_json, left_out=any(run["faults"] for run in result["runs"]))
