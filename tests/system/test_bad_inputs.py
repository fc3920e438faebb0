"""A data set with every kind of bad row: the good rows are all stored, the others are all listed.

What becomes of each kind by itself is in test_bad_inputs_table.py; here it is the command, its exit
code, failures.jsonl, and what a rerun does.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.cache import FeatureCache
from tests.support.command import Finished, run_command
from tests.support.frozen import files

GOOD_PICTURES = ["a.png", "b.png", "late.png"]
BAD_PICTURES = {
    "cut.jpg": "truncated or damaged",
    "empty.jpg": "the file is empty (0 bytes)",
    "text.jpg": "not an image but text",
    "folder.png": "it is a folder",
    "gone.png": "the file is missing",
    "dangling.png": "the file is missing",
    "pipe.png": "not a regular file",
}
BAD_LINES: list[tuple[Any, str]] = [
    ({"question_id": 1, "image": "a.png", "question": "again?", "answer": "x"}, "was used before"),
    ({"question_id": 101, "question": "where?", "answer": "x"}, "image is missing"),
    ({"question_id": 102, "image": "../a.png", "question": "out?"}, "not a path inside"),
    ({"question_id": 103, "image": "a.png", "question": "  "}, "question is blank"),
    ({"question_id": 104, "image": "a.png", "question": "nul\0"}, "holds a NUL"),
    ({"question_id": 105, "image": "a.png", "question": "half \ud83d"}, "holds a NUL or half"),
    ({"question_id": 106, "image": "b.png", "image_id": "a.png", "question": "b?"}, "before; one"),
    (
        {"question_id": 107, "image": "a.png", "question": "long " * 20_000, "answer": "x"},
        "tokens, and tiny",
    ),
    ("{ broken", "Expecting"),
]
GOOD_LINES: list[dict[str, Any]] = [
    {"question_id": 1, "image": "a.png", "question": "what is it?", "answer": "a box"},
    {"question_id": 2, "image": "a.png", "question": "how many?", "answers": ["1", "2"]},
    {"question_id": "2", "image": "b.png", "question": "any?", "answers": ["no"]},
    {"question_id": 4, "image": "b.png", "question": "is it?", "answers": ["yes"] * 11},
    {"question_id": 5, "image": "late.png", "question": "which?", "answer": "b"},
]


def picture(seed: int) -> Image.Image:
    fields = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(fields).resize((64, 64), Image.Resampling.NEAREST)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, name in enumerate(GOOD_PICTURES):
        picture(seed).save(folder / name)
    picture(9).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-200])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not a picture")
    (folder / "folder.png").mkdir()
    (folder / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    about_bad = [
        {"question_id": f"bad {name}", "image": name, "question": "what is it?", "answer": "none"}
        for name in BAD_PICTURES
    ]
    # Bad ones before, between and after the good ones.
    lines = [GOOD_LINES[0], *about_bad[:3], *(line for line, _ in BAD_LINES[:5]), *GOOD_LINES[1:]]
    lines += [*about_bad[3:], *(line for line, _ in BAD_LINES[5:])]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "train.jsonl").write_text(text)
    return folder


def extract(data: Path) -> Finished:
    return run_command(
        "extract-features", "--dataset", f"jsonl:{data}", "--split", "train", "--cache",
        data.parent / "cache", "--vision-model", "tiny", "--text-model", "tiny", "--json",
    )  # fmt: skip


def listed(data: Path) -> list[dict[str, Any]]:
    lines = (data.parent / "cache" / "failures.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_good_row_is_stored_and_every_bad_one_listed(data: Path) -> None:
    found = extract(data)

    assert found.code == 3, found.err
    table = FeatureCache(data.parent / "cache").split("train")
    assert table.question_ids == [1, 2, "2", 4, 5]
    assert table.answers == [("a box",), ("1", "2"), ("no",), ("yes",) * 11, ("b",)]
    ids = FeatureCache(data.parent / "cache").image_ids()
    assert [ids[row] for row in table.image_rows] == ["a.png"] * 2 + ["b.png"] * 2 + ["late.png"]

    failures = listed(data)
    assert failures == found.json()["failures"]
    pictures = {f["id"]: f for f in failures if f["kind"] == "image"}
    assert set(pictures) == set(BAD_PICTURES)
    for name, reason in BAD_PICTURES.items():
        assert pictures[name]["reason"].startswith(reason)
        assert pictures[name]["where"] == str(data / name)
    questions = [f for f in failures if f["kind"] == "question"]
    assert len(questions) == len(BAD_LINES)
    for line, reason in BAD_LINES:
        wanted = line["question_id"] if isinstance(line, dict) else None
        (one,) = [f for f in questions if f["id"] == wanted]
        assert reason in one["reason"]
        assert one["split"] == "train"
    assert found.json()["left_out"] == len(BAD_PICTURES) + len(BAD_LINES)
    assert "7 pictures cannot be read and 9 questions cannot be used; 16 questions" in found.err
    assert str(data.parent / "cache" / "failures.jsonl") in found.err


def test_a_rerun_tries_the_failed_ones_alone_and_takes_what_was_mended(data: Path) -> None:
    extract(data)
    before = files(data.parent / "cache")
    again = extract(data)
    assert (again.code, again.json()["images"]["encoded"]) == (3, 0)
    assert files(data.parent / "cache") == before

    picture(5).save(data / "gone.png")
    (data / "empty.jpg").unlink()
    picture(6).save(data / "empty.jpg")
    mended = extract(data)
    assert (mended.code, mended.json()["images"]["encoded"]) == (3, 2)
    after = files(data.parent / "cache")
    for name in before:
        if name.startswith(("images/", "questions/")):
            assert after[name] == before[name]
    table = FeatureCache(data.parent / "cache").split("train")
    assert {"bad gone.png", "bad empty.jpg"} <= set(table.question_ids)
    assert len(table) == len(GOOD_LINES) + 2
    assert {"gone.png", "empty.jpg"}.isdisjoint({f["id"] for f in listed(data)})


def test_when_all_is_mended_nothing_is_listed(data: Path) -> None:
    extract(data)
    lines = "\n".join(json.dumps(line) for line in GOOD_LINES)
    (data / "train.jsonl").write_text(lines)
    for seed, name in enumerate(BAD_PICTURES, 20):
        path = data / name
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        picture(seed).save(path)
    also = [{"image": name, "question": "what is it?", "answer": "x"} for name in BAD_PICTURES]
    (data / "train.jsonl").write_text("\n".join([lines, *map(json.dumps, also)]))

    found = extract(data)
    assert (found.code, found.json()["failures"]) == (0, [])
    assert not (data.parent / "cache" / "failures.jsonl").exists()
    assert found.json()["images"] == {"total": 10, "ids": 10, "encoded": 7, "skipped": 0}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"image": "a.png", "question": "\xff?"}', "not UTF-8"),
        (b"", "the file has no lines"),
        (b"{ broken\n[1]\n", "none of its 2 questions can be used"),
    ],
)
def test_a_file_that_cannot_be_trusted_changes_nothing(
    content: bytes, sentence: str, data: Path
) -> None:
    extract(data)
    before = files(data.parent / "cache")
    (data / "train.jsonl").write_bytes(content)

    found = extract(data)
    assert (found.code, found.out) == (1, "")
    assert sentence in found.err.splitlines()[-1]
    assert files(data.parent / "cache") == before


def test_a_folder_whose_name_is_not_utf8(data: Path) -> None:
    other = Path(os.fsdecode(os.fsencode(str(data.parent)) + b"/d\xe9j\xe0"))
    data.rename(other)
    (other.parent / "cache").mkdir(exist_ok=True)
    found = extract(other)

    assert found.code == 3, found.err
    assert len(FeatureCache(other.parent / "cache").split("train")) == len(GOOD_LINES)
    assert any(r"d\udce9j\udce0" in failure["where"] for failure in listed(other))
