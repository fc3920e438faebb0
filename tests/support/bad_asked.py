"""The rows of docs/bad-inputs.md about what is asked, about lists of runs, and about clusters."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.bad_inputs import Row
from tests.support.bad_options import ASK, EVALUATE, OUTCOMES, make_inputs, run_in
from tests.support.command import run_command

ASK_FILE = "ask DATA/run --questions DATA/asked.jsonl"


def asked(words: str, *lines: object, name: str = "asked.jsonl") -> Any:
    """A case of `ask` beside a file that holds one JSON value a line, or a text."""

    def make(folder: Path) -> Row:
        make_inputs(folder, run=True)
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (folder / name).write_text("".join(f"{line}\n" for line in text))
        (folder / "empty").mkdir()
        return run_in(folder, words)

    return make


def damaged(name: str, content: str) -> Any:
    """A case of `runs` on a run of which one record is damaged: it is listed with its fault."""

    def make(folder: Path) -> Row:
        make_inputs(folder, run=True)
        (folder / "run" / name).write_text(content)
        found = run_command("runs", folder)
        return {**OUTCOMES, 3: "left out, exit 3"}[found.code], found.err.splitlines()[-1]

    return make


ASKED: dict[str, Callable[[Path], Row]] = {
    "`ask` without a question": asked("ask DATA/run --image DATA/a.png"),
    "`ask` without a picture": asked("ask DATA/run --question what?"),
    "`ask` with `--questions` and `--image`": asked(f"{ASK_FILE} --image DATA/a.png"),
    "`ask` about a folder without pictures": asked(
        "ask DATA/run --image DATA/empty --question what?"
    ),
    "`--questions` that does not exist": asked("ask DATA/run --questions DATA/none.jsonl"),
    "`--questions` without lines": asked(ASK_FILE),
    "`--questions` whose lines have no question": asked(ASK_FILE, {"image": "a.png"}),
    "`--csv` that somebody else wrote": asked(
        f"{ASK} --csv DATA/my.csv", "name,age", name="my.csv"
    ),
    "`--csv` that is a folder": asked(f"{ASK} --csv DATA/empty"),
    "`--save-attention` that somebody else drew": asked(f"{ASK} --save-attention DATA/a.png"),
    "`--save-attention` of a folder": asked(
        "ask DATA/run --image DATA --question what? --save-attention DATA/s.png"
    ),
    "`--save-attention` of a file of questions": asked(
        f"{ASK_FILE} --save-attention DATA/s.png", {"image": "a.png", "question": "what?"}
    ),
    "run named twice": asked(f"ask DATA/run --run DATA/run {ASK.partition('DATA/run ')[2]}"),
    "two words where a command takes one": asked("inspect-cache DATA/c DATA/run"),
    "a word where a command takes none": asked("demo DATA/c"),
    "`runs` of a folder that does not exist": asked("runs DATA/none"),
    "`runs` of a file": asked("runs DATA/a.png"),
    "`runs` of a folder without runs": asked("runs DATA/empty"),
    "`runs` with a `run.json` of another kind": damaged("run.json", "[]"),
    "`runs` with a `run.json` that was changed": damaged("run.json", '{"cache": "x"}'),
    "`runs` with a `config.toml` that is none": damaged("config.toml", "= 3"),
    "`runs` with a `config.json` of another format": damaged("config.json", '{"format": 1}'),
    "`--cluster-by folder` where no picture has one": asked(f"{EVALUATE} --cluster-by folder"),
    "`--cluster-by` that is none": asked(f"{EVALUATE} --cluster-by video"),
}
