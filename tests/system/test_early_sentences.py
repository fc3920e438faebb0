"""What can be known in a second is said before torch is loaded, and in --dry-run too."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from frozen_vqa.cache import FeatureCache
from tests.support.bad_files import parquet
from tests.support.caches import Made, Row, make_cache
from tests.support.early_command import LOADS_TORCH
from tests.support.heads import make_run
from tests.support.repository import ROOT

STOPS, TELLS = 1, LOADS_TORCH
"""What a fault does: it ends the command, or leaves something out."""

LINE = '{"image": "a.png", "question": "what?", "answer": "dog"}\n'

EXTRACTIONS = {
    "mistyped path": (STOPS, ["--dataset=jsonl:DATA/nowhere"], "there is no such file or folder"),
    "mistyped path, vqav2": (STOPS, ["--dataset=vqav2:DATA/nowhere"], "nowhere"),
    "mistyped path, hub": (STOPS, ["--dataset=hub:DATA/nowhere"], "there is no such file"),
    "mistyped form": (STOPS, ["--dataset=jsnl:DATA"], "Did you mean 'jsonl:DATA'?"),
    "path of no user": (STOPS, ["--dataset=jsonl:~nosuchuser/x"], "no such file or folder"),
    "missing split": (STOPS, ["--split=vall"], "no split 'vall'"),
    "missing split, hub": (STOPS, ["--dataset=hub:DATA/hub", "--split=vall"], "no split 'vall'"),
    "missing split, shapes": (STOPS, ["--dataset=shapes:2", "--split=vall"], "no split 'vall'"),
    "split twice": (STOPS, ["--split=train", "--split=train"], "--split train is given twice"),
    "field of no name": (
        STOPS,
        ["--dataset=hub:DATA/hub", "--column=queston=q"],
        "no field 'queston'",
    ),
    "missing column": (STOPS, ["--dataset=hub:DATA/hub", "--column=question=q"], "no column 'q'"),
    "not UTF-8": (STOPS, ["--split=latin"], "is not UTF-8"),
    "no line to use": (STOPS, ["--split=broken"], "none of its 1 questions can be used"),
    "nearly named": (STOPS, ["--split=answr"], "'answr' is not known; did you mean 'answer'?"),
    "no pictures": (STOPS, ["--split=gone"], "none of the 2 pictures can be read"),
    "mistyped model": (STOPS, ["--vision-model=DATA/nowhere"], "there is no such folder"),
    "mistyped text model": (STOPS, ["--text-model=./nowhere"], "there is no such folder"),
    "folder of the user": (STOPS, ["--cache=DATA"], "no mark of frozen-vqa"),
    "folder of a run": (STOPS, ["--cache=DATA/run"], "made this folder for a run"),
    "file for a folder": (STOPS, ["--cache=DATA/train.jsonl/c"], "this is no folder"),
    "folder that is no model": (STOPS, ["--text-model=DATA"], "config.json is missing"),
    "unreadable line": (TELLS, ["--split=half"], "1 questions cannot be used; the first is DATA"),
    "missing picture": (TELLS, ["--split=few"], "1 of the 2 pictures that were looked for are"),
    "no answers": (TELLS, ["--split=bare"], "split 'bare': no question has an answer"),
    "nothing wrong": (TELLS, ["--split=train"], ""),
}
OTHERS = {
    "train-head --cache=DATA/c --run=DATA/new": {
        "--cache=DATA/nowhere": "there is no cache here",
        "--train-split=trian": "there is no split 'trian'",
        "--val-split=vall": "there is no split 'vall'",
        "--val-split=test": "have no answers",
        "--config=DATA/nowhere.toml": "cannot be read",
        "--config=DATA/train.jsonl": "not a TOML file",
        "--config=DATA/epoch.toml": "did you mean 'epochs'?",
        "--epochs=0": "epochs is 0",
        "--width=1000000000": "width is 1000000000",
        "--answers=DATA/nowhere.txt": "nowhere.txt: cannot be read",
        "--answers=DATA/other.txt": "no question of split 'train' has one of its",
        "--run=DATA/run": "there is a run in this folder already",
        "--run=DATA/train.jsonl": "this is no folder",
        "--resume": "there is no training here to resume",
        "--sweep=DATA/epoch.toml": "did you mean 'epochs'?",
        "--sweep=DATA/many.toml": "combine to 1,100 heads",
    },
    "evaluate --run=DATA/run": {
        "--run=DATA/nowhere": "there is no run here",
        "--compare=DATA/nowhere": "there is no run here",
        "--ensemble=DATA/nowhere": "there is no run here",
        "--cache=DATA/nowhere": "there is no cache here",
        "--split=vall": "there is no split 'vall'",
        "--table=DATA/x.txt": "end the name with",
        "--split=test --compare=DATA/run": "has no answers",
    },
    "ask --run=DATA/run --image=DATA/a.png --question=what?": {
        "--run=DATA/nowhere": "there is no run here",
        "--image=DATA/nowhere.png": "nowhere.png: the file is missing",
        "--image=DATA/train.jsonl": "not an image",
        "--question=": "the question is empty",
        "--question=caf\udce9": "is not UTF-8 at character 4",
    },
    "score --predictions=DATA/run/config.json --annotations=DATA/train.jsonl": {
        "--annotations=DATA/nowhere": "nowhere",
        "--metric=2021": "train.jsonl",
    },
    "convert-cache --cache=DATA/new": {
        "DATA/nowhere": "there is no cache here",
        "DATA/c --dtype=float32": "float32",
    },
    "demo": {"--out=DATA/train.jsonl": "this is no folder"},
    "inspect-cache": {"DATA/nowhere": "there is no cache here"},
    "verify-cache": {"DATA/nowhere": "there is no cache here"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, splits with a fault each, a cache and a run."""
    data = tmp_path_factory.mktemp("early")
    Image.new("RGB", (8, 8), "red").save(data / "a.png")
    gone = LINE.replace("a.png", "gone.png")
    for name, content in {
        "train": LINE,
        "half": LINE + "{\n",
        "broken": "{\n",
        "answr": LINE.replace("answer", "answr"),
        "gone": gone + gone.replace("gone", "lost"),
        "few": LINE + gone,
        "bare": LINE.replace("answer", "label"),
    }.items():
        (data / f"{name}.jsonl").write_text(content)
    (data / "latin.jsonl").write_bytes(LINE.replace("dog", "né").encode("latin-1"))
    (data / "epoch.toml").write_text("epoch = 3\n")
    (data / "many.toml").write_text(f"seed = {list(range(1100))}\n")
    (data / "other.txt").write_text("zebra\n")
    (data / "hub").mkdir()
    parquet(train=[1])(data / "hub")
    rows = [Row(0, 0, ("dog",)), Row(1, 1, ("cat",))]
    made = make_cache(data / "c", {"train": rows, "val": rows, "test": [Row(0, 1)]})
    assert isinstance(made, Made)
    assert FeatureCache(data / "c").split("val")
    make_run(made, data / "run")
    return data


def run_early(data: Path, lines: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Run commands in one new process, up to torch; return exit codes and stderr."""
    words = [[word.replace("DATA", str(data)) for word in line] for line in lines]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.early_command"],
        input=json.dumps(words),
        cwd=ROOT,
        env={**os.environ, "HF_DATASETS_CACHE": str(data / "datasets")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, said.replace(str(data), "DATA")) for code, said in json.loads(done.stdout)]


@pytest.mark.stops
def test_a_fault_of_the_data_is_said_before_torch_and_in_a_dry_run_too(data: Path) -> None:
    lines = []
    for _, options, _ in EXTRACTIONS.values():
        given = {option.partition("=")[0] for option in options}
        usual = {"--dataset": "jsonl:DATA", "--split": "train", "--cache": "DATA/new"}
        usual |= {"--vision-model": "tiny", "--text-model": "tiny"}
        line = [f"{name}={value}" for name, value in usual.items() if name not in given]
        lines += [["extract-features", *line, *options, *dry] for dry in ([], ["--dry-run"])]
    found = run_early(data, lines)

    for number, (name, (code, _, sentence)) in enumerate(EXTRACTIONS.items()):
        really, dry = found[2 * number : 2 * number + 2]
        assert really == dry, name
        assert really[0] == code, (name, really)
        assert sentence in really[1], (name, really)
    sound = "train: JSONL, UTF-8, DATA/train.jsonl: image, question, answer\n"
    assert found[-1] == (TELLS, sound)
    assert not (data / "new").exists()


@pytest.mark.stops
def test_a_fault_of_any_other_command_is_said_before_torch(data: Path) -> None:
    cases = [
        (command, option, sentence)
        for command, faults in OTHERS.items()
        for option, sentence in faults.items()
    ]
    lines = []
    for command, option, _ in cases:
        given = {one.partition("=")[0] for one in option.split(" ") if one.startswith("-")}
        kept = [word for word in command.split(" ") if word.partition("=")[0] not in given]
        lines.append([*kept, *option.split(" ")])
    for (command, option, sentence), (code, said) in zip(
        cases, run_early(data, lines), strict=True
    ):
        assert (code, sentence in said) == (STOPS, True), (command, option, code, said)
        assert said.startswith("error: "), (command, option, said)
        assert said.count("\n") == 1, (command, option, said)
    assert not (data / "new").exists()
