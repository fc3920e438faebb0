"""What the words of a command line become, or the usage error that says why they cannot.

Imports of ours wait until a word is read.
"""

import os
from pathlib import Path
from typing import Any

import typer


def to_path(text: str | Path) -> Path:
    """Return the path that an option names; an empty one would mean the working folder.

    Shells leave the ~ of --run=~/x as it is.
    """
    if not str(text).strip():
        raise typer.BadParameter("the path is empty; name a file or a folder (. for this folder)")
    if "://" in str(text):
        raise typer.BadParameter(
            "a URL stands where a file or a folder of this machine is needed; `frozen-vqa pull "
            "URL --to FOLDER` brings a cache from there"
        )
    return Path(os.path.expanduser(text))


def to_place(text: str | Path) -> Path | str:
    """Return a path, or the URL of a cache."""
    return str(text) if "://" in str(text) else to_path(text)


def path_option(*names: str, help: str) -> Any:
    """Return an option that takes a path; every such option and argument goes through `to_path`."""
    return typer.Option(*names, parser=to_path, metavar="PATH", help=help)


def to_fusion(text: str) -> str:
    """Return the name of a fusion, and import one of the user's own."""
    from frozen_vqa.pipeline.model.config import FUSIONS

    if text not in FUSIONS and ":" not in text:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(FUSIONS)}, or MODULE:NAME")
    return text if text in FUSIONS else import_own_code(text)


def to_model(text: str) -> str:
    """Return the name of a model, and import one of the user's own."""
    from frozen_vqa.pipeline.encoders.own_model import is_own_model

    return import_own_code(text) if is_own_model(text) else text


def to_dataset(text: str) -> str:
    """Return the name of a data set, and import one of the user's own."""
    from frozen_vqa.pipeline.sources.open_source import is_own_source

    return import_own_code(text) if is_own_source(text) else text


def import_own_code(text: str) -> str:
    """Import code of the user's own, which runs and settings may name from then on."""
    from frozen_vqa.pipeline.plugins import trust

    return trust(text)


def to_window(window: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a range of grey values, or raise for one that no value is in."""
    if window and not -1e9 <= window[0] < window[1] <= 1e9:
        low, high = window
        raise typer.BadParameter(
            f"{low:g} to {high:g} is no range; name the value that becomes black and a higher one"
        )
    return window


def to_image_size(text: str) -> str:
    """Return a size of pictures, or raise for what names none."""
    from frozen_vqa.pipeline.encoders.reading import sides_of
    from frozen_vqa.pipeline.errors import ModelError

    try:
        sides_of(text)
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def to_columns(texts: list[str]) -> dict[str, str]:
    """Return a mapping from our columns to those of a data set, out of words like a=b."""
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not (name and equals):
            raise typer.BadParameter(f"--column is {text!r}; it must look like question=query")
    return {name: value for name, _, value in pairs}


def to_batch_size(text: str) -> int | None:
    """Return the number of pictures in a batch, or None for one that is chosen later."""
    from frozen_vqa.pipeline.extract.origin import LARGEST_BATCH

    if text == "auto":
        return None
    if not (text.isdecimal() and len(text) < 10 and 1 <= int(text) <= LARGEST_BATCH):
        raise typer.BadParameter(
            f"--batch-size is {text!r}; it must be auto or a number from 1 to {LARGEST_BATCH:,}"
        )
    return int(text)


def be_quiet(quiet: bool) -> bool:
    """Let this process print results, warnings and errors alone."""
    from frozen_vqa.pipeline.system.console import console

    console.results_only = quiet
    return quiet
