"""Options of `train-head` alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from frozen_vqa.pipeline.commands.parse.words import path_option, to_fusion, to_place

Cache = Annotated[
    Path | None,
    typer.Option(
        parser=to_place,
        metavar="PATH",
        help="Folder of the feature cache, or its URL (default of --resume: that of the run).",
    ),
]
Config = Annotated[
    Path | None, path_option(help="TOML file of settings; command-line options override it.")
]
Sweep = Annotated[
    Path | None,
    path_option(help="TOML file of many heads to train in one pass, each into RUN/NAME."),
]
Preset = Annotated[
    Literal["basic", "small", "large"] | None,
    typer.Option(
        help="Settings to start from; the file and the options override them. basic: the "
        "plainest head. small, large: 6 layers of width 512 or 1024 with self-attention over "
        "the question."
    ),
]
Vision = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[@LAYER]",
        help="Encoder of a cache of several; repeat to read several side by side. each: a head "
        "on every one, and one on all.  [default: all]",
    ),
]
TextLayer = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAYER", help="Llama layer of a cache of several; as --vision.  [default: all]"
    ),
]
Fusion = Annotated[
    str | None,
    typer.Option(
        parser=to_fusion,
        metavar="[co-attention|text-to-image|concat|question-only|image-only|MODULE:NAME]",
        help="How the head combines picture and question; MODULE:NAME is code of your own.  "
        "[default: co-attention]",
    ),
]
Layers = Annotated[int | None, typer.Option(help="Number of cross-attention layers.  [default: 1]")]
Width = Annotated[int | None, typer.Option(help="Size of the head's vectors.  [default: 256]")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 15]")]
Patience = Annotated[
    int | None,
    typer.Option(help="Stop after this many epochs without improvement (0: never).  [default: 0]"),
]
BatchSize = Annotated[int | None, typer.Option(help="Questions per batch.  [default: 256]")]
Accumulate = Annotated[int | None, typer.Option(help="Batches per training step.  [default: 1]")]
Lr = Annotated[
    float | None,
    typer.Option("--lr", "--learning-rate", help="Peak learning rate.  [default: 0.001]"),
]
Ema = Annotated[
    float | None,
    typer.Option(help="Decay of averaged weights, such as 0.999 (0: no average).  [default: 0.0]"),
]
Seed = Annotated[int | None, typer.Option(help="Seed of the weights and of dropout.  [default: 0]")]
OrderSeed = Annotated[int | None, typer.Option(help="Seed of the batch order.  [default: 0]")]
GroupByImage = Annotated[
    bool | None,
    typer.Option(
        "--group-by-image/--plain-order",
        help="Keep a picture's questions together.  [default: group-by-image]",
    ),
]
MinAnswerCount = Annotated[
    int | None,
    typer.Option(
        help="Make an answer a class if it is the majority in this many questions.  [default: 9]"
    ),
]
Answers = Annotated[
    Path | None,
    path_option(help="File of the answers to predict: one per line, or a run's answers.json."),
]
TrainSplit = Annotated[str | None, typer.Option(help="Split to train on.  [default: train]")]
ValSplit = Annotated[
    str | None, typer.Option(help="Split that chooses the best epoch.  [default: val]")
]
ValFraction = Annotated[
    float | None,
    typer.Option(help="Hold out this share of the training pictures in its place, such as 0.1."),
]
Keep = Annotated[
    Literal["best", "last"] | None,
    typer.Option(help="Keep the weights of the best epoch or of the last.  [default: best]"),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue a training that was stopped or killed.")
]
Overwrite = Annotated[bool, typer.Option(help="Replace the run in the folder.")]
Residency = Annotated[
    Literal["auto", "gpu", "ram", "mapped"],
    typer.Option(help="Where to keep the features during training (auto: by free memory)."),
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write curves for TensorBoard to the run folder.")
]
Report = Annotated[
    bool, typer.Option("--report/--no-report", help="Also score the head and write a report.")
]
