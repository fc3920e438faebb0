"""Commands that answer questions with a trained head."""

from pathlib import Path
from typing import Annotated

import typer

from frozen_vqa.pipeline.commands.parse.finish import finish
from frozen_vqa.pipeline.commands.parse.shared import (
    Device,
    Json,
    OwnEncoder,
    OwnFusion,
    Quiet,
    RunPath,
)
from frozen_vqa.pipeline.commands.parse.words import path_option


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
    finish(result, as_json, left_out=bool(result.get("left_out")))


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
