"""The command line: each command parses its options, calls one function and prints the result.

Exit codes: 0 the command is done; 1 it failed, with one line on stderr that says why; 2 wrong
usage; 3 it is done, but without some inputs, heads or extra files, which it lists; 130 Ctrl-C,
143 SIGTERM.
With --json, stdout holds one JSON object and nothing else.

Imports of our own modules wait until the command is known, because torch alone takes seconds to
import and `--help` should not.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the folder of this file, or with `python -m` the working folder

import importlib.util
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

if __name__ == "__main__" and not __package__:  # `python cli.py`: this checkout, installed or not
    _root = Path(__file__).resolve().parent
    _spec = importlib.util.spec_from_file_location(
        "frozen_vqa", _root / "__init__.py", submodule_search_locations=[str(_root)]
    )
    assert _spec
    assert _spec.loader
    sys.modules["frozen_vqa"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["frozen_vqa"])

from frozen_vqa.pipeline.options import extraction, training
from frozen_vqa.pipeline.options.extraction import TEXT_MODEL, VISION_MODEL
from frozen_vqa.pipeline.options.help import FEATURES, HEADS, START, Group, add_command
from frozen_vqa.pipeline.options.shared import (
    DATA,
    Annotations,
    Cache,
    CacheOrUrl,
    Column,
    Device,
    Images,
    Json,
    Metric,
    OwnEncoder,
    OwnFusion,
    Prometheus,
    Quiet,
    RunPath,
    Stage,
    Window,
)
from frozen_vqa.pipeline.options.words import (
    path_option,
    to_batch_size,
    to_columns,
    to_dataset,
    to_place,
)

app = typer.Typer(
    name="frozen-vqa",
    cls=Group,
    help="Train Visual Question Answering heads on cached features of frozen DINOv2 and Llama 3.",
    epilog="`frozen-vqa COMMAND --help` shows the options of a command, with examples.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["--help", "-h"],
        "max_content_width": 10_000,  # what the terminal has
    },
)


command = partial(add_command, app)

LEFT_OUT = 3


def _show_version(asked: bool) -> None:
    if asked:
        from frozen_vqa import __version__

        typer.echo(f"frozen-vqa {__version__}")
        raise typer.Exit


@app.callback()
def frozen_vqa(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def _folder(cache: Path | str, stage: Path | None) -> Path:
    """Return the folder of a cache; one at a URL gets a folder to which its shards come."""
    if isinstance(cache, Path):
        return cache
    from frozen_vqa.cache.stores.stage import open_stage

    return open_stage(cache, stage)


def _written(cache: Path | str, stage: Path | None) -> Any:
    """Return a context that yields the folder of a cache, and sends it if it belongs to a URL."""
    if isinstance(cache, Path):
        return nullcontext(cache)
    from frozen_vqa.pipeline.share.writing import written_at

    return written_at(cache, stage)


@command(
    FEATURES,
    "extract-features --dataset jsonl:DATA --split train --split val --cache features",
    "extract-features --dataset vqav2:VQA --split val --cache features --dry-run",
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
    with watched, _written(cache, stage) as folder:
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
        _finish(result, as_json, left_out=bool(result.get("failures")))


@command(
    FEATURES,
    "download okvqa --to data/okvqa",
    "download coco2014 --to data/okvqa",
)
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

    _finish(download_command(name, to=to), as_json)


@command(
    FEATURES,
    "check-data jsonl:photos",
    "check-data jsonl:photos/train.csv --sheet sample.png",
)
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
    _finish(result, as_json, left_out=some or bool(result["refused"]))


@command(
    HEADS,
    "train-head features --run runs/a",
    "train-head features --run runs/b --fusion concat --lr 5e-4 --epochs 20",
    "train-head --run runs/b --resume",
    unnamed="cache",
)
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
            cache=_folder(cache, stage) if cache else None,
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
        _finish(result, as_json, left_out=bool(result.get("failed")))


@command(
    HEADS,
    "evaluate runs/a",
    "evaluate runs/a --compare runs/b --shuffle-images",
    "evaluate runs/seed0 runs/seed1 --table table.md",
    unnamed="run",
)
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
        cache=_folder(cache, stage) if cache else None,
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
    _finish(result, as_json)


@command(HEADS, "score --predictions results.json --annotations v2_mscoco_val2014_annotations.json")
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
    _finish(result, as_json)


@command(
    HEADS,
    'ask runs/a --image cat.jpg --question "what color is the cat?"',
    'ask runs/a --image pictures --question "is there a cat?" --question "is it day?"',
    "ask runs/a --questions questions.jsonl --csv answers.csv",
    unnamed="run",
)
def ask(
    run: RunPath,
    image: Annotated[
        Path | None, path_option(help="Picture file, or a folder of pictures.")
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option(help="Question about the picture; repeat for several.")
    ] = None,
    questions: Annotated[
        Path | None,
        path_option(help="File of questions with their pictures, as --dataset jsonl:FILE reads."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many answers to show.")] = 5,
    fusion: OwnFusion = None,
    encoder: OwnEncoder = None,
    csv: Annotated[
        Path | None, path_option(help="Also write the answers to this CSV file.")
    ] = None,
    save_attention: Annotated[
        Path | None,
        path_option(help="Also draw where each word looks in the picture, to this PNG file."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer questions about pictures with a trained head."""
    from frozen_vqa.pipeline.commands.ask import ask_command

    if questions and (image or question):
        raise typer.BadParameter(
            "--questions names pictures and questions; leave --image and --question out"
        )
    if not questions and not (image and question):
        raise typer.BadParameter("give --image and --question, or --questions")
    result = ask_command(
        run=run,
        image=image,
        questions=question or [],
        file=questions,
        top=top,
        table=csv,
        strip=save_attention,
        device=device,
    )
    _finish(result, as_json, left_out=bool(result.get("left_out")))


@command(HEADS, "serve runs/a", "serve runs/a --port 8000", unnamed="run")
def serve(
    run: RunPath,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines ask too.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on (0: any free one).")
    ] = 7860,
    fusion: OwnFusion = None,
    encoder: OwnEncoder = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Open a page in the browser that answers questions and shows where the head looks."""
    from frozen_vqa.pipeline.commands.ask import serve_command

    serve_command(run=run, host=host, port=port, device=device)


@command(HEADS, "runs runs", unnamed="folder")
def runs(
    folder: Annotated[Path, path_option(help="Folder that holds runs, at any depth to 4.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the heads in a folder with their scores, the best first."""
    from frozen_vqa.pipeline.commands.list_runs import list_command

    result = list_command(folder)
    _finish(result, as_json, left_out=any(run["faults"] for run in result["runs"]))


@command(FEATURES, "inspect-cache features", unnamed="cache")
def inspect_cache(
    cache: CacheOrUrl,
    stage: Stage = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the settings and the contents of a cache."""
    from frozen_vqa.pipeline.commands.inspect_cache import inspect_command

    _finish(inspect_command(_folder(cache, stage)), as_json)


@command(FEATURES, "verify-cache features", unnamed="cache")
def verify_cache(
    cache: CacheOrUrl,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Read so many shards and splits only, others each time."),
    ] = None,
    stage: Stage = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read every byte of a cache and compare it with its digest."""
    from frozen_vqa.pipeline.commands.inspect_cache import verify_command

    result = verify_command(_folder(cache, stage), sample)
    _finish(result, as_json)
    if result["damaged"]:
        raise typer.Exit(1)


@command(FEATURES, "convert-cache features --cache features-int8", unnamed="source")
def convert_cache(
    source: Annotated[
        Path, path_option(help="Folder of the cache to convert; it does not change.")
    ],
    cache: Annotated[Path, path_option(help="Folder of the new feature cache.")],
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32", "int8"],
        typer.Option(help="Number type of the new cache, smaller than that of the old one."),
    ] = "int8",
    pool: Annotated[
        Literal["1", "2"],
        typer.Option(help="With 2, store the mean of each 2 x 2 patches; the type may stay then."),
    ] = "1",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Store the features of a cache in fewer bytes, without any encoder. Resumes by itself."""
    from frozen_vqa.pipeline.commands.convert_cache import convert_command

    _finish(convert_command(source, cache=cache, dtype=dtype, pool=int(pool)), as_json)


@command(FEATURES, "push features --to hf://datasets/USER/NAME", unnamed="cache")
def push(
    cache: Cache,
    to: Annotated[
        str,
        typer.Option(
            metavar="URL", help="s3://BUCKET/NAME, gs://BUCKET/NAME, hf://datasets/USER/NAME."
        ),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Send a cache to a bucket or the Hub, so that others can train. Goes on where it was cut."""
    from frozen_vqa.pipeline.share.command import push_command

    _finish(push_command(cache, to=to), as_json)


@command(
    FEATURES,
    "pull hf://datasets/USER/NAME --to features",
    "pull s3://BUCKET/NAME --to features --split val",
)
def pull(
    url: Annotated[str, typer.Argument(help="Where `push` put the cache.")],
    to: Annotated[Path, path_option(help="Folder for the cache.")],
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Bring what this split needs; repeat for several (default: all)."
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring a cache or a part of it from a bucket or the Hub. Goes on where it was cut."""
    from frozen_vqa.pipeline.share.command import pull_command

    _finish(pull_command(url, to=to, splits=split or []), as_json)


@command(START, "doctor")
def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Check this machine: PyTorch, GPU, memory, disk, and access to the default models."""
    from frozen_vqa.pipeline.commands.doctor import doctor_command

    result = doctor_command((VISION_MODEL, TEXT_MODEL))
    _finish(result, as_json)
    if not result["ready"]:
        raise typer.Exit(1)


@command(START, "demo --out demo")
def demo(
    out: Annotated[Path, path_option(help="Folder for everything that the demo makes.")] = Path(
        "demo"
    ),
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Also write a report of the best head.")
    ] = True,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole pipeline on generated scenes: minutes on a CPU, no download."""
    from frozen_vqa.pipeline.commands.demo import run_demo

    _finish(run_demo(out, report=report), as_json)


def _finish(result: dict[str, Any], as_json: bool, *, left_out: bool = False) -> None:
    if as_json:
        from frozen_vqa.pipeline.system.endings import print_result
        from frozen_vqa.pipeline.system.texts import to_json

        print_result(to_json(result))
    if left_out or result.get("not_written"):
        from frozen_vqa.pipeline.system.ranks import by_torchrun

        if not by_torchrun():  # it takes any code but 0 for a crash
            raise typer.Exit(LEFT_OUT)


def main() -> None:
    """Run the command of this process's command line."""
    from frozen_vqa.pipeline.system.endings import run_to_the_end

    run_to_the_end(app)


if __name__ == "__main__":
    main()
