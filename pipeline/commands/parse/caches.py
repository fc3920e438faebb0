"""Commands on a cache that is there."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from frozen_vqa.pipeline.commands.parse.finish import finish, folder_of
from frozen_vqa.pipeline.commands.parse.shared import Cache, CacheOrUrl, Json, Quiet, Stage
from frozen_vqa.pipeline.commands.parse.words import path_option


def inspect_cache(
    cache: CacheOrUrl,
    stage: Stage = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the settings and the contents of a cache."""
    from frozen_vqa.pipeline.commands.inspect_cache import inspect_command

    finish(inspect_command(folder_of(cache, stage)), as_json)


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

    result = verify_command(folder_of(cache, stage), sample)
    finish(result, as_json)
    if result["damaged"]:
        raise typer.Exit(1)


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

    finish(convert_command(source, cache=cache, dtype=dtype, pool=int(pool)), as_json)


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

    finish(push_command(cache, to=to), as_json)


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

    finish(pull_command(url, to=to, splits=split or []), as_json)
