"""What a person can mend is one line and exit code 1, before anything is written."""

import re
from pathlib import Path

import pytest

from tests.support.command import error_of, only_line, run_command
from tests.support.tiny_commands import (
    _home,  # noqa: F401  (a fixture)
    extract,
)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("vqav2:/no/where", r"vqav2:/no/where: there is no such folder\. Check the path\."),
        ("jsonl:/no/where.jsonl", r"jsonl:/no/where\.jsonl: .*"),
        ("hub:./no/where", r"hub:\./no/where: there is no such file or folder\. Check the path\."),
        (
            "vqa2:/data",
            r"dataset 'vqa2:/data' has none of the forms .* Did you mean 'vqav2:/data'\?",
        ),
        ("vqav2", r"dataset 'vqav2': nothing follows 'vqav2'; write vqav2:PATH\."),
        (
            "shapes:many",
            r"shapes:many: 'many' is not a number of images\. Write for example shapes:500\.",
        ),
        ("", r"dataset '' has none of the forms jsonl:PATH, .*"),
    ],
)
def test_a_wrong_data_set(tmp_path: Path, dataset: str, said: str) -> None:
    found = extract(tmp_path, "--dataset", dataset, "--split", "train", "--json")
    assert re.fullmatch(said, only_line(found))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--split", "validate"), r"shapes: no split 'validate'; there are train, val, test\. .*"),
        (("--split", "val", "--split", "val"), r"--split val is given twice; .*"),
        (
            ("--split", "val", "--column", "question=query"),
            r"shapes:8: --column is for hub:, jsonl: and wds: data sets\. Leave it out\.",
        ),
        (
            ("--split", "val", "--device", "tpu"),
            r"device 'tpu' cannot be used: .* Names are auto, cpu, .*",
        ),
        (
            ("--split", "val", "--device", "meta"),
            r"device 'meta' cannot be used: there is no such device\. Names are .*",
        ),
        (
            ("--split", "val", "--device", "gpu"),
            r"device 'gpu' cannot be used: there is no such device\. Did you mean cuda\? .*",
        ),
        (("--split", "val", "--text-layer", 9), r"text layer 9 does not exist in tiny: .* -3 to 2"),
        (("--split", "val", "--image-size", 100), r"image size 100 is not .*; use --image-size 98"),
        (("--split", "val", "--image-size", 0), r"image size 0 is not .*; use --image-size 14"),
        (
            ("--split", "val", "--vision-model", "facebook/dinov9"),
            r"facebook/dinov9 is not in the local Hub cache, and offline mode is on; run `hf .*",
        ),
        (
            ("--split", "val", "--text-model", "./nowhere"),
            r"\./nowhere: there is no such folder, and it is not the name of a model on the Hub",
        ),
        (
            ("--split", "val", "--dataset", "hub:x/y", "--column", "picture=p"),
            r"--column picture=…: no field 'picture'; there are image, .*",
        ),
    ],
)
def test_extraction_refuses_before_it_writes(tmp_path: Path, words: tuple, said: str) -> None:
    found = extract(tmp_path, *words, "--json")
    assert re.fullmatch(said, only_line(found))
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_would_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    said = error_of(extract(tmp_path, "--split", "val"))
    assert re.fullmatch(
        r".*/cache: this is no folder, and a cache needs one\. Give --cache .*", said
    )
    assert (tmp_path / "cache").read_text() == "mine"


@pytest.mark.parametrize("command", ["train-head", "inspect-cache", "verify-cache"])
def test_a_missing_cache(tmp_path: Path, command: str) -> None:
    there = tmp_path / "cache"
    words = ("--cache", there, "--run", tmp_path / "r") if command == "train-head" else (there,)
    said = only_line(run_command(command, *words, "--json"))
    assert said.startswith(f"{there}: there is no cache here (there is no such folder). `")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "ask"])
def test_a_missing_run(tmp_path: Path, command: str) -> None:
    there = tmp_path / "run"
    more = ("--image", "a.jpg", "--question", "what?") if command == "ask" else ()
    said = only_line(run_command(command, "--run", there, *more, "--json"))
    assert said.startswith(f"{there}: there is no run here (there is no such folder). `")
    assert list(tmp_path.iterdir()) == []
