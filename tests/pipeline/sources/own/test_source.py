"""Your own folder: every line is used as it says, from the split and with the picture it names."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import LeftOut, VqaExample
from frozen_vqa.pipeline.sources.own.source import OwnSource
from tests.support.jsonl_files import LINE, left_out, read, write


def test_defaults_are_path_and_line_number(tmp_path: Path) -> None:
    first, second = read(tmp_path, LINE, "", {**LINE, "image": "./images//b.png"})

    assert first == VqaExample(1, "images/a.png", "What?", ("dog",))
    assert (second.question_id, second.image_id) == (3, "images/b.png")


def test_all_fields_are_taken(tmp_path: Path) -> None:
    record = {
        "image": "a.png",
        "question": "How many?",
        "answers": ["2", "2", "zwei ✌"],
        "question_id": "q-7",
        "image_id": 12,
        "question_type": "how many",
        "answer_type": "number",
        "note": "ignored",
    }

    assert read(tmp_path, record) == [
        VqaExample("q-7", 12, "How many?", ("2", "2", "zwei ✌"), "how many", "number")
    ]


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"answer": "dog"}, ("dog",)),
        ({"answers": "dog"}, ("dog",)),
        ({"answer": ["a", "b"]}, ("a", "b")),
        ({"answers": [{"answer": "a"}, {"answer": "b", "answer_id": 2}]}, ("a", "b")),
        ({"answers": []}, ()),
        ({}, ()),
        ({"answers": ["a", "b"], "answer": "a"}, ("a", "b")),
        ({"answers": None, "answer": "a"}, ("a",)),
        ({"answers": [], "answer": "a"}, ("a",)),
        ({"answer": None}, ()),
        ({"answers": ["a"] * 11}, ("a",) * 11),
        ({"answers": ["é"]}, ("é",)),
    ],
)
def test_answers_as_list_or_one_or_none(
    tmp_path: Path, fields: dict[str, Any], answers: tuple[str, ...]
) -> None:
    assert read(tmp_path, {"image": "a.png", "question": "q?", **fields})[0].answers == answers


def test_pictures_are_relative_to_the_file(tmp_path: Path) -> None:
    source = OwnSource(write(tmp_path / "d.jsonl", LINE))
    source.examples("train")

    assert source.picture("images/a.png") == tmp_path / "images" / "a.png"
    assert source.where("images/a.png") == str(tmp_path / "images" / "a.png")


def test_a_folder_has_a_file_per_split(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", LINE)
    write(tmp_path / "val.jsonl", {**LINE, "image": "images/b.png", "split": "val"})
    source = OwnSource(tmp_path)

    assert [e.image_id for e in source.examples("train")] == ["images/a.png"]
    assert [e.image_id for e in source.examples("val")] == ["images/b.png"]
    assert source.picture("images/b.png") == tmp_path / "images" / "b.png"
    with pytest.raises(SourceError, match=r"no split 'test'.*has: train, val"):
        source.examples("test")


def test_the_only_file_of_a_folder_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path / "questions.jsonl", {**LINE, "split": "train"}, {**LINE, "split": "val"})
    source = OwnSource(tmp_path)

    assert source.splits() == ["train", "val"]
    assert [len(source.examples(split)) for split in source.splits()] == [1, 1]
    write(tmp_path / "other.jsonl", LINE)
    with pytest.raises(SourceError, match=r"no split 'val'.*has: other, questions"):
        OwnSource(tmp_path).examples("val")


def test_a_split_is_found_by_another_usual_name(tmp_path: Path) -> None:
    write(tmp_path / "validation.jsonl", LINE)
    source = OwnSource(tmp_path)

    assert len(source.examples("val")) == 1
    with pytest.raises(SourceError, match="was read as split 'val', so it cannot be 'dev' too"):
        source.examples("dev")


def test_pictures_of_folders_with_metadata_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "metadata.csv").write_text("file_name,question,answer\na.png,q?,a\n")
    source = OwnSource(tmp_path)

    assert source.splits() == ["train", "val"]
    found = [source.examples(split)[0].image_id for split in source.splits()]
    assert found == ["train/a.png", "val/a.png"]
    assert source.picture("val/a.png") == tmp_path / "val" / "a.png"


def test_a_line_in_the_file_of_another_split_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "val.jsonl", LINE, {**LINE, "split": "train"}, {**LINE, "split": "val"})
    source = OwnSource(tmp_path)

    assert [e.question_id for e in source.examples("val")] == [1, 3]
    reason = "split is 'train' in the file of 'val'; move it"
    assert source.left_out("val") == [LeftOut(2, f"{tmp_path / 'val.jsonl'}:2", reason)]


def test_one_file_may_hold_several_splits(tmp_path: Path) -> None:
    file = write(
        tmp_path / "all.jsonl",
        {**LINE, "split": "train"},
        {**LINE, "split": "val"},
        {**LINE, "split": "train"},
    )
    source = OwnSource(file)

    assert [e.question_id for e in source.examples("train")] == [1, 3]
    assert [e.question_id for e in source.examples("val")] == [2]
    with pytest.raises(SourceError, match="no question of split 'test'; its lines are of: train"):
        source.examples("test")


def test_one_file_without_splits_is_one_split_of_any_name(tmp_path: Path) -> None:
    source = OwnSource(write(tmp_path / "d.jsonl", LINE))

    assert source.examples("holdout") == source.examples("holdout")
    with pytest.raises(SourceError, match=r"read as split 'holdout'.*cannot be 'val' too"):
        source.examples("val")


def test_the_few_lines_that_name_no_split_unlike_the_most_are_left_out(tmp_path: Path) -> None:
    named = {**LINE, "split": "train"}

    used, left = left_out(tmp_path, named, LINE, named)

    assert used == [1, 3]
    reason = "names no split, but most lines of the file do; all or none must"
    assert left == [LeftOut(2, f"{tmp_path / 'd.jsonl'}:2", reason)]


def test_the_few_lines_that_name_a_split_unlike_the_most_are_left_out(tmp_path: Path) -> None:
    used, left = left_out(tmp_path, {**LINE, "split": "val"}, LINE, LINE)

    assert used == [2, 3]
    reason = "split is 'val', but most lines of the file name none; all or none must"
    assert left == [LeftOut(1, f"{tmp_path / 'd.jsonl'}:1", reason)]


def test_a_file_of_which_half_names_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"d\.jsonl: half of the 2 lines name a split"):
        read(tmp_path, LINE, {**LINE, "split": "train"})


def test_a_line_that_cannot_be_read_is_left_out_of_every_split(tmp_path: Path) -> None:
    """But one whose split can be read, of its own alone."""
    train, val = {**LINE, "split": "train"}, {**LINE, "split": "val"}
    file = write(tmp_path / "all.jsonl", train, val, "{", {**val, "question": ""})
    source = OwnSource(file)

    assert len(source.examples("train")) == len(source.examples("val")) == 1
    assert [fault.where for fault in source.left_out("train")] == [f"{file}:3"]
    assert [fault.where for fault in source.left_out("val")] == [f"{file}:3", f"{file}:4"]


def test_one_id_is_one_picture_in_all_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {**LINE, "image_id": 1}, {**LINE, "image_id": 1})
    other = {**LINE, "image": "other.png", "image_id": 1}
    write(tmp_path / "val.jsonl", other, {**LINE, "image_id": 1})
    source = OwnSource(tmp_path)

    assert len(source.examples("train")) == 2
    assert [e.question_id for e in source.examples("val")] == [2]
    (fault,) = source.left_out("val")
    assert (fault.question_id, fault.where) == (1, f"{tmp_path / 'val.jsonl'}:1")
    assert fault.reason == (
        "image_id 1 is other.png here, but was images/a.png before; one id must mean one picture "
        "in all splits"
    )
    assert source.left_out("train") == []
    assert source.picture(1) == tmp_path / "images" / "a.png"


def test_what_is_left_out_claims_no_id_and_no_picture(tmp_path: Path) -> None:
    """The first question that can be used is kept, not the first line."""
    blank = {**LINE, "question": "", "question_id": 5, "image": "b.png", "image_id": 1}
    clash = {**LINE, "question_id": 6, "image": "b.png", "image_id": 1}
    good = {**LINE, "question_id": 5, "image_id": 1}

    used, left = left_out(tmp_path, blank, good, clash, {**good, "question_id": 6})

    assert used == [5, 6]
    assert [fault.question_id for fault in left] == [5, 6]
    assert [fault.where[-2:] for fault in left] == [":1", ":3"]


@pytest.mark.parametrize("second", [{"question": "Other?"}, {}])
def test_of_equal_question_ids_the_first_is_kept(tmp_path: Path, second: dict[str, str]) -> None:
    line = {**LINE, "question_id": "x"}

    used, left = left_out(tmp_path, line, LINE, {**line, **second}, {**line, **second})

    assert used == ["x", 2]
    reason = "question_id 'x' was used before, in line 1; the first is kept"
    assert left == [LeftOut("x", f"{tmp_path / 'd.jsonl'}:{n}", reason) for n in (3, 4)]


@pytest.mark.parametrize(
    "image", ["../a.png", "a/../../b.png", "a/../b.png", "/etc/a.png", "", "."]
)
def test_a_picture_outside_the_folder_is_left_out(tmp_path: Path, image: str) -> None:
    used, left = left_out(tmp_path, LINE, {**LINE, "image": image}, LINE)

    assert used == [1, 3]
    reason = (
        f"image {image!r} is not a path inside the data folder; copy or link it there, or give the "
        "folder of the pictures by --images"
    )
    assert left == [LeftOut(2, f"{tmp_path / 'd.jsonl'}:2", reason)]


def test_a_link_that_the_owner_has_put_into_the_folder_is_followed(tmp_path: Path) -> None:
    pictures, data = tmp_path / "pictures", tmp_path / "data"
    pictures.mkdir()
    data.mkdir()
    (pictures / "a.png").write_bytes(b"pixels")
    (data / "images").symlink_to(pictures)
    source = OwnSource(write(data / "d.jsonl", LINE))

    (example,) = source.examples("train")

    assert source.picture(example.image_id).read_bytes() == b"pixels"


@settings(deadline=None)
@given(
    question=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda text: text.strip() and "\0" not in text
    )
)
def test_any_text_comes_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, question: str
) -> None:
    folder = tmp_path_factory.mktemp("text")

    assert read(folder, {**LINE, "question": question})[0].question == question
