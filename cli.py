"""The command line: every command, with examples; `pipeline/commands/parse/` has their options.

Exit codes: 0 the command is done; 1 it failed, with one line on stderr that says why; 2 wrong
usage; 3 it is done, but without some inputs, heads or extra files, which it lists; 130 Ctrl-C,
143 SIGTERM.
With --json, stdout holds one JSON object and nothing else.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the folder of this file, or with `python -m` the working folder

import importlib.util
from functools import partial
from pathlib import Path
from typing import Annotated

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

from frozen_vqa.pipeline.commands.parse import asking, caches, heads, stage_one, start
from frozen_vqa.pipeline.commands.parse.help import FEATURES, HEADS, START, Group, add_command

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


command(
    FEATURES,
    stage_one.extract_features,
    "extract-features --dataset jsonl:DATA --split train --split val --cache features",
    "extract-features --dataset vqav2:VQA --split val --cache features --dry-run",
)
command(
    FEATURES,
    stage_one.download,
    "download okvqa --to data/okvqa",
    "download coco2014 --to data/okvqa",
)
command(
    FEATURES,
    stage_one.check_data,
    "check-data jsonl:photos",
    "check-data jsonl:photos/train.csv --sheet sample.png",
)
command(
    HEADS,
    heads.train_head,
    "train-head features --run runs/a",
    "train-head features --run runs/b --fusion concat --lr 5e-4 --epochs 20",
    "train-head --run runs/b --resume",
    unnamed="cache",
)
command(
    HEADS,
    heads.evaluate,
    "evaluate runs/a",
    "evaluate runs/a --compare runs/b --shuffle-images",
    "evaluate runs/seed0 runs/seed1 --table table.md",
    unnamed="run",
)
command(
    HEADS,
    heads.score,
    "score --predictions results.json --annotations v2_mscoco_val2014_annotations.json",
)
command(
    HEADS,
    asking.ask,
    'ask runs/a --image cat.jpg --question "what color is the cat?"',
    'ask runs/a --image pictures --question "is there a cat?" --question "is it day?"',
    "ask runs/a --questions questions.jsonl --csv answers.csv",
    unnamed="run",
)
command(HEADS, asking.serve, "serve runs/a", "serve runs/a --port 8000", unnamed="run")
command(HEADS, heads.runs, "runs runs", unnamed="folder")
command(FEATURES, caches.inspect_cache, "inspect-cache features", unnamed="cache")
command(FEATURES, caches.verify_cache, "verify-cache features", unnamed="cache")
command(
    FEATURES, caches.convert_cache, "convert-cache features --cache features-int8", unnamed="source"
)
command(FEATURES, caches.push, "push features --to hf://datasets/USER/NAME", unnamed="cache")
command(
    FEATURES,
    caches.pull,
    "pull hf://datasets/USER/NAME --to features",
    "pull s3://BUCKET/NAME --to features --split val",
)
command(START, start.doctor, "doctor")
command(START, start.demo, "demo --out demo")


def main() -> None:
    """Run the command of this process's command line."""
    from frozen_vqa.pipeline.system.endings import run_to_the_end

    run_to_the_end(app)


if __name__ == "__main__":
    main()
