"""Options of `extract-features` alone."""

from typing import Annotated, Literal

import typer

from frozen_vqa.pipeline.commands.parse.shared import DATA
from frozen_vqa.pipeline.commands.parse.words import to_dataset, to_image_size, to_model

REVISION = "(default: that of the cache, else main)"
VISION_MODEL, TEXT_MODEL = "facebook/dinov2-base", "meta-llama/Llama-3.2-1B"

Dataset = Annotated[
    str,
    typer.Option(parser=to_dataset, metavar="TEXT", help=DATA),
]
Split = Annotated[
    list[str] | None,
    typer.Option(
        help="Split to extract; repeat for several (default of jsonl: and wds: data: all)."
    ),
]
VisionModel = Annotated[
    list[str] | None,
    typer.Option(
        parser=to_model,
        metavar="TEXT",
        help="DINOv2, DINOv3, ViT, CLIP or SigLIP: Hub name, folder, tiny (untrained) or "
        f"MODULE:NAME; repeat for several side by side.  [default: {VISION_MODEL}]",
    ),
]
VisionRevision = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help=f"Its branch, tag or commit on the Hub {REVISION}; repeat, one for each model.",
    ),
]
VisionLayer = Annotated[
    list[int] | None,
    typer.Option(
        metavar="LAYER",
        help="Layer to store (-1: the last, after the final norm); repeat for several.  "
        "[default: -1]",
    ),
]
TextModel = Annotated[
    str,
    typer.Option(
        parser=to_model,
        metavar="TEXT",
        help="Llama, Mistral, Qwen, Gemma 3 or ModernBERT: Hub name, folder, tiny (untrained) "
        "or MODULE:NAME.",
    ),
]
TextRevision = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help=f"Its branch, tag or commit on the Hub {REVISION}."),
]
TextLayer = Annotated[
    list[int] | None,
    typer.Option(
        metavar="LAYER",
        help="Layer to store (-1: the last, after the final norm); repeat for several.  "
        "[default: -1]",
    ),
]
ComputeDtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        metavar="TEXT",
        help="Compute in float32, bfloat16, float16, or auto: the type of the cache, else "
        "float32 on a CPU; on a GPU float16 for pictures if finite, bfloat16 for text.",
    ),
]
Quantize = Annotated[
    Literal["int8", "nf4"] | None,
    typer.Option(help="Load the text model's weights in 8 or 4 bits (extra quantize)."),
]
ImageSize = Annotated[
    list[str] | None,
    typer.Option(
        parser=to_image_size,
        metavar="SIZE",
        help="Pixels per side, or height x width, such as 336x448 (default: the model's own; "
        "DINOv2: 224); repeat, one for each model.",
    ),
]
Fit = Annotated[
    Literal["whole", "crop"],
    typer.Option(help="Resize the whole picture, or resize it and keep only the centre."),
]
ReduceJpegs = Annotated[
    bool,
    typer.Option(
        "--reduce-jpegs",
        help="Decode large JPEGs at a half, a quarter or an eighth: faster, not exact.",
    ),
]
GpuJpegs = Annotated[
    bool,
    typer.Option(
        "--gpu-jpegs",
        help="Decode and resize JPEGs on the GPU (extra nvjpeg): not Pillow's pixels.",
    ),
]
Dtype = Annotated[
    Literal["float16", "bfloat16", "float32", "int8"],
    typer.Option(
        help="Number type of stored features: int8 takes half the bytes of float16; bfloat16 "
        "holds what is too large for it."
    ),
]
Pool = Annotated[
    Literal["1", "2"],
    typer.Option(help="With 2, store the mean of each 2 x 2 patches: a quarter of the bytes."),
]
BatchSize = Annotated[
    str, typer.Option(help="Pictures per batch (auto: 32 on a CPU, the fastest on a GPU).")
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, max=2**31, help="Take at most this many questions of each split (default: all)."
    ),
]
Rebuild = Annotated[
    list[str] | None,
    typer.Option(help="Make only this shard again: images/00003.h5; repeat for several."),
]
DryRun = Annotated[bool, typer.Option(help="Only print the plan, size and time.")]
Engine = Annotated[
    Literal["process", "ray"],
    typer.Option(help="Encode in this process, or on a cluster of nodes that come and go."),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Ray cluster to join, or auto (default: RAY_ADDRESS, else this machine alone).",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, max=2**20, help="Workers of Ray (default: one per GPU, or one per CPU node)."
    ),
]
