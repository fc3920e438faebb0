"""Commands for the first day."""

from pathlib import Path
from typing import Annotated

import typer

from frozen_vqa.pipeline.commands.parse.extraction import TEXT_MODEL, VISION_MODEL
from frozen_vqa.pipeline.commands.parse.finish import finish
from frozen_vqa.pipeline.commands.parse.shared import Json, Quiet
from frozen_vqa.pipeline.commands.parse.words import path_option


def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Check this machine: PyTorch, GPU, memory, disk, and access to the default models."""
    from frozen_vqa.pipeline.commands.doctor import doctor_command

    result = doctor_command((VISION_MODEL, TEXT_MODEL))
    finish(result, as_json)
    if not result["ready"]:
        raise typer.Exit(1)


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

    finish(run_demo(out, report=report), as_json)
