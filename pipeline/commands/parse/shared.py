"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from frozen_vqa.pipeline.commands.parse.words import (
    be_quiet,
    import_own_code,
    path_option,
    to_place,
    to_window,
)

DATA = (
    "Data: jsonl:PATH, wds:PATTERN, hub:NAME_OR_PATH, shapes[:N], MODULE:NAME, or official files: "
    "vqav2:PATH, okvqa:PATH, and so on for vizwiz, textvqa, gqa, clevr, aokvqa, tallyqa, visual7w, "
    "vqa-rad, slake, pathvqa, daquar, scienceqa and nlvr2."
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", callback=be_quiet, help="Print only results, warnings and errors."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... (auto: a GPU if there is one).")]
Cache = Annotated[Path, path_option(help="Folder of the feature cache.")]
CacheOrUrl = Annotated[
    Path,
    typer.Option(
        parser=to_place,
        metavar="PATH",
        help="Folder of the feature cache, or its URL (s3://, hf://).",
    ),
]
Stage = Annotated[
    Path | None,
    path_option(help="Folder to which shards of a URL come (default: in ~/.cache/frozen-vqa)."),
]
Prometheus = Annotated[
    Path | None,
    path_option("--prometheus", help="Write figures of the run for Prometheus to this file."),
]
RunPath = Annotated[Path, path_option("--run", help="Run folder of the trained head.")]
Column = Annotated[
    list[str] | None,
    typer.Option(help="Column of a hub:, jsonl: or wds: data set, such as question=query."),
]
Images = Annotated[
    Path | None,
    path_option(
        help="Folder of the pictures, if elsewhere; for vqav2:FILE the path of each, such as "
        "'val2014/COCO_val2014_{image_id:012d}.jpg'."
    ),
]
Annotations = Annotated[Path | None, path_option(help="File of the annotations of a vqav2:FILE.")]
Window = Annotated[
    tuple[float, float] | None,
    typer.Option(
        callback=to_window,
        metavar="LOW HIGH",
        help="Values that become black and white in grey pictures of more than 8 bits.",
    ),
]
OwnFusion = Annotated[
    list[str] | None,
    typer.Option(
        "--fusion",
        parser=import_own_code,
        metavar="MODULE:NAME",
        help="Fusion of your own that a run was trained with; repeat for several.",
    ),
]
OwnEncoder = Annotated[
    list[str] | None,
    typer.Option(
        parser=import_own_code,
        metavar="MODULE:NAME",
        help="Encoder of your own that a run was trained with; repeat for both.",
    ),
]
MetricName = Literal[
    "2021",
    "2017",
    "plain",
    "choice",
    "vizwiz",
    "textvqa",
    "gqa",
    "clevr",
    "aokvqa",
    "aokvqa-da",
    "vqa-rad",
    "slake",
    "pathvqa",
    "tallyqa",
    "daquar",
    "visual7w",
    "scienceqa",
    "nlvr2",
]
Metric = Annotated[
    MetricName | None,
    typer.Option(
        metavar="NAME",
        help="Metric (default: that of the data; else 2021, or plain below ten answers): "
        f"{', '.join(get_args(MetricName))}.",
    ),
]
