"""The folder of a cache before a command, and the exit code behind it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

LEFT_OUT = 3
"""Exit code of a command that is done, but without some inputs, heads or files."""


def folder_of(cache: Path | str, stage: Path | None) -> Path:
    """Return the folder of a cache; one at a URL gets a folder to which its shards come."""
    if isinstance(cache, Path):
        return cache
    from frozen_vqa.cache.stores.stage import open_stage

    return open_stage(cache, stage)


def folder_to_write(cache: Path | str, stage: Path | None) -> Any:
    """Return a context that yields the folder of a cache, and sends it if it belongs to a URL."""
    if isinstance(cache, Path):
        return nullcontext(cache)
    from frozen_vqa.pipeline.share.writing import written_at

    return written_at(cache, stage)


def finish(result: dict[str, Any], as_json: bool, *, left_out: bool = False) -> None:
    """Print a result with --json, and end with `LEFT_OUT` if something is missing."""
    if as_json:
        from frozen_vqa.pipeline.system.endings import print_result
        from frozen_vqa.pipeline.system.texts import to_json

        print_result(to_json(result))
    if left_out or result.get("not_written"):
        from frozen_vqa.pipeline.system.ranks import by_torchrun

        if not by_torchrun():  # it takes any code but 0 for a crash
            raise typer.Exit(LEFT_OUT)
