"""Every command with a command line that works, and every option with the values that may not.

The commands and their options are those of the program itself, so a new one is tested by itself.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import typer.main
from PIL import Image

from frozen_vqa import cli
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.pipeline.download.catalogue import DATA_SETS
from frozen_vqa.pipeline.errors import DownloadError
from tests.support.tiny_commands import TINY

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]

LONG = "x" * 5000
NOT_UTF8 = "caf\udce9"
"""As Python decodes a byte of an argument that is not UTF-8."""

NUMBERS = ("0", "-1", "1000000000", str(10**30), "9" * 5000, "nan", "-inf", "1e400", "")
TEXTS = ("", NOT_UTF8, LONG, "~nosuchuser/x", "/dev/full/x", "a::b\n[red]x")


def extremes() -> Iterator[tuple[str, str, str]]:
    """Yield command, option and value for each option of each command that takes a value."""
    for command, function in zip(COMMANDS, cli.app.registered_commands, strict=True):
        assert function.callback
        assert function.callback.__name__.replace("_", "-") == command
        kinds = get_type_hints(function.callback)
        for option in COMMANDS[command].params:
            kind = kinds.get(option.name)
            if kind in (bool, bool | None, None):
                continue
            numeric = {int, float} & {kind, *get_args(kind)} or option.name == "batch_size"
            names = [option.opts[0], *([""] if option.name == COMMANDS[command].unnamed else [])]
            values = NUMBERS if numeric else TEXTS
            yield from ((command, name, value) for name in names for value in values)


def working_lines(place: Path, out: Path) -> dict[str, list[str]]:
    """Return a command line for each command, on the cache and the run in `place`.

    `make_inputs` has to write the other files; what is written goes to `out`.
    """
    data = place / "data"
    lines: dict[str, Sequence[object]] = {
        "extract-features": (
            *("--dataset", f"jsonl:{data}", "--split", "train", "--cache", out / "new", *TINY),
            "--dry-run",
        ),
        "download": ("aokvqa", "--to", data),  # which is there
        "check-data": (f"jsonl:{data}", "--sheet", out / "sheet.png"),
        "train-head": (
            *("--cache", place / "cache", "--run", out / "run", "--width", 8),
            *("--min-answer-count", 1, "--epochs", 1),
        ),
        "evaluate": ("--run", place / "run"),
        "score": ("--predictions", data / "results.json", "--annotations", data / "given.json"),
        "ask": ("--run", place / "run", "--image", data / "a.png", "--question", "what is it?"),
        "serve": ("--run", place / "run", "--port", 0),
        "inspect-cache": ("--cache", place / "cache"),
        "verify-cache": ("--cache", place / "cache"),
        "convert-cache": ("--source", place / "cache", "--cache", out / "converted"),
        "push": ("--cache", place / "cache", "--to", f"file://{out}/pushed"),
        "pull": (f"file://{place}/nothing", "--to", out / "pulled"),
        "runs": ("--folder", place),
        "doctor": (),
        "demo": ("--out", out / "demo"),
    }
    assert set(lines) == set(COMMANDS)
    return {command: [command, *map(str, words)] for command, words in lines.items()}


def unnamed(line: Sequence[str]) -> list[str]:
    """Return a command line with the value of the option that needs no name behind the others."""
    name = COMMANDS[line[0]].unnamed
    option = next((one.opts[0] for one in COMMANDS[line[0]].params if one.name == name), None)
    if option not in line:
        return list(line)
    at = line.index(option)
    return [*line[:at], *line[at + 2 :], "--", line[at + 1]]


def with_option(line: Sequence[str], option: str, value: str) -> list[str]:
    """Return a command line with another value of an option; "" is the one that needs no name."""
    if not option:
        return [*unnamed(line)[:-1], value]
    if option in line:
        at = line.index(option)
        return [*line[:at], *line[at + 2 :], f"{option}={value}"]
    return [*line, f"{option}={value}"]


def make_inputs(place: Path) -> None:
    """Write one picture, one question about it, and official files of a question."""
    data = place / "data"
    data.mkdir()
    Image.new("RGB", (8, 8), "red").save(data / "a.png")
    line = {"image": "a.png", "question": "what is it?", "answer": "a box"}
    (data / "train.jsonl").write_text(json.dumps(line) + "\n")
    (data / "results.json").write_text(json.dumps([{"question_id": 1, "answer": "red"}]))
    given = {"question_id": 1, "image_id": 1, "answers": [{"answer": "red"}] * 10}
    given |= {"question_type": "what", "answer_type": "other"}
    (data / "given.json").write_text(json.dumps({"annotations": [given]}))
    fetched = OwnFolder(data / ".download", "downloads", DownloadError, "--to")
    (file,) = DATA_SETS["aokvqa"].files
    fetched.claim()
    fetched.note(f"aokvqa-{file.name}.done")
    done = {"url": file.url, "bytes": 1, "files": []}
    (data / ".download" / f"aokvqa-{file.name}.done").write_text(json.dumps(done))
