"""`check-data`: what a data set has and what would be left out, without any model."""

import json
from pathlib import Path

import pytest
from PIL import Image

from frozen_vqa.pipeline.pictures.contact_sheet import is_sheet
from tests.support.command import error_of, run_command

ROWS = """Image,Question,Answer,Note
a.png,what?,dog,x
a.png,where?,,x
b.png,what?,cat,x
gone.png,what?,cat,x
,what?,cat,x
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    (tmp_path / "train.csv").write_text(ROWS)
    return tmp_path


def test_what_is_found_and_left_out_is_said_with_lines(data: Path) -> None:
    done = run_command("check-data", f"jsonl:{data}", "--json")

    (train,) = done.json()["splits"]
    assert done.code == 3
    assert train["form"] == "CSV with commas, UTF-8"
    assert train["columns"] == {"image": "Image", "question": "Question", "answer": "Answer"}
    assert train["ignored"] == ["Note"]
    assert (train["questions"], train["answered"], train["pictures"], train["missing"]) == (
        3,
        3,
        3,
        1,
    )
    assert train["frequent_answers"] == [["cat", 2], ["dog", 1]]
    assert [one["where"] for one in train["left_out"]] == [
        f"{data}/train.csv:6",
        f"{data}/train.csv:3",
    ]
    for words in (f"{data}/train.csv:3: it has no answer", "image is missing", f"{data}/gone.png"):
        assert words in done.err


def test_a_sheet_is_drawn_and_replaces_no_file_of_others(data: Path) -> None:
    sheet = data / "sheet.png"
    for _ in range(2):
        assert run_command("check-data", f"jsonl:{data}", "--sheet", sheet).code == 3
        assert is_sheet(sheet.read_bytes())
        with Image.open(sheet) as drawn:
            assert drawn.size[0] > 4 * 200
    before = (data / "a.png").read_bytes()
    words = ("check-data", f"jsonl:{data}", "--sheet", data / "a.png")
    assert "there is something in the way" in error_of(run_command(*words))
    assert (data / "a.png").read_bytes() == before


def test_sound_data_end_with_0_and_no_picture_with_1(data: Path) -> None:
    (data / "train.csv").write_text("image,question\na.png,what?\n")
    assert run_command("check-data", f"jsonl:{data}").code == 0
    (data / "images").mkdir()
    (data / "a.png").rename(data / "images" / "a.png")
    error = error_of(run_command("check-data", f"jsonl:{data}"))
    assert error.endswith(f"But {data}/images/a.png is there: give --images {data}/images.")
    assert run_command("check-data", f"jsonl:{data}", "--images", data / "images").code == 0


def test_a_file_that_holds_no_questions_costs_only_itself(data: Path) -> None:
    (data / "settings.json").write_text(json.dumps({"seed": 1}))
    done = run_command("check-data", f"jsonl:{data}", "--json")
    assert done.code == 3
    assert list(done.json()["refused"]) == ["settings"]
    assert "settings.json" in error_of(
        run_command("check-data", f"jsonl:{data}", "--split", "settings")
    )


def test_other_data_sets_can_be_checked_too() -> None:
    found = run_command("check-data", "shapes:5", "--json").json()
    assert [one["split"] for one in found["splits"]] == ["train", "val", "test"]
    assert [one["pictures"] for one in found["splits"]] == [5, 1, 1]


def test_floor_and_ceiling_are_those_that_training_will_say(tmp_path: Path) -> None:
    """`bounds` has them for each split; a rare answer is no class."""
    answers = {"train": ["red"] * 9 + ["blue"] * 12 + ["grey"], "val": ["red", "red", "blue", "x"]}
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    for split, some in answers.items():
        rows = [f"a.png,what {i}?,{answer}\n" for i, answer in enumerate(some)]
        (tmp_path / f"{split}.csv").write_text(f"image,question,answer\n{''.join(rows)}")
    done = run_command("check-data", f"jsonl:{tmp_path}", "--json")
    bounds = {one["split"]: one["bounds"] for one in done.json()["splits"]}
    classes = {"metric": "plain", "classes": 2}
    assert bounds == {
        "train": {**classes, "floor": 54.55, "ceiling": 95.45, "usual": "blue"},
        "val": {**classes, "floor": 50.0, "ceiling": 75.0, "usual": "red"},
    }
    said = "val: floor 50.00 % (always 'red'), ceiling 75.00 % (the best of 2 answers that are"
    assert said in " ".join(done.err.split())

    rare = run_command("check-data", f"jsonl:{tmp_path / 'val.csv'}", "--json")
    assert rare.json()["splits"][0]["bounds"] is None
