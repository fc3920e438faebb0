"""Your own folder: every line is used as it says, or left out with its number and the reason."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SourceError
from pipeline.examples import LeftOut, VqaExample
from pipeline.jsonl import JsonlSource

LINE = {"image": "images/a.png", "question": "What?", "answer": "dog"}


def write(file: Path, *records: dict[str, Any] | str) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(path: Path, *records: dict[str, Any] | str, split: str = "train") -> list[VqaExample]:
    return JsonlSource(write(path / "d.jsonl", *records)).examples(split)


def left_out(path: Path, *records: dict[str, Any] | str) -> tuple[list[object], list[LeftOut]]:
    """Return the ids of the questions that are used, and what is left out; the file is d.jsonl."""
    source = JsonlSource(write(path / "d.jsonl", *records))
    return [e.question_id for e in source.examples("train")], list(source.left_out("train"))


def test_defaults_are_path_and_line_number(tmp_path: Path) -> None:
    first, second = read(tmp_path, LINE, "", {**LINE, "image": "./images//b.png"})

    assert first == VqaExample(1, "images/a.png", "What?", ("dog",))
    assert (second.question_id, second.image_id) == (3, "images/b.png")


def test_all_fields_are_taken(tmp_path: Path) -> None:
    record = {
        "image": "a.png",
        "question": "How many?",
        "answers": ["2", 2, "zwei ✌"],
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
        ({"answer": 7}, ("7",)),
        ({"answers": []}, ()),
        ({}, ()),
        ({"answers": ["a", "b"], "answer": "a"}, ("a", "b")),
        ({"answers": None, "answer": "a"}, ("a",)),
        ({"answer": None}, ()),
        ({"answers": ["a", None, "b"]}, ("a", "b")),
        ({"answers": [None]}, ()),
        ({"answers": [1.5, 2.0, -3, 1e22]}, ("1.5", "2", "-3", "1e+22")),
        ({"answers": ["a"] * 11}, ("a",) * 11),
        ({"answers": ["", "é"]}, ("", "é")),
    ],
)
def test_answers_as_list_or_one_or_none(
    tmp_path: Path, fields: dict[str, Any], answers: tuple[str, ...]
) -> None:
    assert read(tmp_path, {"image": "a.png", "question": "q?", **fields})[0].answers == answers


def test_pictures_are_relative_to_the_file(tmp_path: Path) -> None:
    source = JsonlSource(write(tmp_path / "d.jsonl", LINE))
    source.examples("train")

    assert source.picture("images/a.png") == tmp_path / "images" / "a.png"
    assert source.where("images/a.png") == str(tmp_path / "images" / "a.png")


def test_a_folder_has_a_file_per_split(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", LINE)
    write(tmp_path / "val.jsonl", {**LINE, "image": "images/b.png", "split": "val"})
    source = JsonlSource(tmp_path)

    assert [e.image_id for e in source.examples("train")] == ["images/a.png"]
    assert [e.image_id for e in source.examples("val")] == ["images/b.png"]
    assert source.picture("images/b.png") == tmp_path / "images" / "b.png"
    with pytest.raises(SourceError, match=r"no split 'test'.*has: train, val"):
        source.examples("test")


def test_a_line_in_the_file_of_another_split_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "val.jsonl", LINE, {**LINE, "split": "train"}, {**LINE, "split": "val"})
    source = JsonlSource(tmp_path)

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
    source = JsonlSource(file)

    assert [e.question_id for e in source.examples("train")] == [1, 3]
    assert [e.question_id for e in source.examples("val")] == [2]
    with pytest.raises(SourceError, match="no question of split 'test'; its lines are of: train"):
        source.examples("test")


def test_one_file_without_splits_is_one_split_of_any_name(tmp_path: Path) -> None:
    source = JsonlSource(write(tmp_path / "d.jsonl", LINE))

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
    source = JsonlSource(file)

    assert len(source.examples("train")) == len(source.examples("val")) == 1
    assert [fault.where for fault in source.left_out("train")] == [f"{file}:3"]
    assert [fault.where for fault in source.left_out("val")] == [f"{file}:3", f"{file}:4"]


def test_one_id_is_one_picture_in_all_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {**LINE, "image_id": 1}, {**LINE, "image_id": 1})
    other = {**LINE, "image": "other.png", "image_id": 1}
    write(tmp_path / "val.jsonl", other, {**LINE, "image_id": 1})
    source = JsonlSource(tmp_path)

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
    reason = f"image {image!r} is not a path inside the data folder; copy or link it there"
    assert left == [LeftOut(2, f"{tmp_path / 'd.jsonl'}:2", reason)]


def test_a_link_that_the_owner_has_put_into_the_folder_is_followed(tmp_path: Path) -> None:
    pictures, data = tmp_path / "pictures", tmp_path / "data"
    pictures.mkdir()
    data.mkdir()
    (pictures / "a.png").write_bytes(b"pixels")
    (data / "images").symlink_to(pictures)
    source = JsonlSource(write(data / "d.jsonl", LINE))

    (example,) = source.examples("train")

    assert source.picture(example.image_id).read_bytes() == b"pixels"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"question": 7}, "question is 7; text is needed"),
        ({"question": None}, "question is null; text is needed"),
        ({"question": ""}, "question is blank; text is needed"),
        ({"question": " \n"}, "question is blank; text is needed"),
        (
            {"question": "a\0b"},
            r"question 'a\x00b' holds a NUL or half of a surrogate pair; remove",
        ),
        ({"question": "a\ud83d"}, r"question 'a\ud83d' holds a NUL or half of a surrogate pair"),
        ({"image": 5}, "image is 5; text is needed"),
        ({"image": None}, "image is null; text is needed"),
        ({"image": "a\0.png"}, r"image 'a\x00.png' holds a NUL"),
        ({"answer": True}, "an answer is true; text or a number is needed"),
        ({"answer": {}}, "an answer is an object; text or a number is needed"),
        ({"answer": "\udc00"}, r"an answer '\udc00' holds a NUL or half of a surrogate pair"),
        ({"answer": ["dog"]}, "answer is a list; `answers` holds a list of texts, `answer` one"),
        ({"answers": "dog"}, "answers is 'dog'; `answers` holds a list of texts, `answer` one"),
        ({"answers": ["dog", False]}, "an answer is false; text or a number is needed"),
        ({"answers": [{"answer": "dog"}]}, "an answer is an object; text or a number is needed"),
        ({"answers": ["dog", "a\0"]}, r"an answer 'a\x00' holds a NUL"),
        ({"image_id": [1]}, "image_id is a list; text or a whole number of 64 bits is needed"),
        ({"image_id": "\0"}, r"image_id '\x00' holds a NUL"),
        ({"question_type": 3}, "question_type is 3; text is needed"),
        ({"answer_type": "\ud800"}, r"answer_type '\ud800' holds a NUL or half of a surrogate"),
        ({"split": 1}, "split is 1; text is needed"),
    ],
)
def test_a_line_with_a_wrong_value_is_left_out(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    used, left = left_out(tmp_path, LINE, {**LINE, **fields}, LINE)

    assert used == [1, 3]
    (fault,) = left
    assert (fault.question_id, fault.where) == (2, f"{tmp_path / 'd.jsonl'}:2")
    assert fault.reason.startswith(reason)


@pytest.mark.parametrize("question_id", [1.0, None, 2**63, -(2**63) - 1, True, "", [1], "\0"])
def test_an_id_of_the_wrong_type_names_no_question(tmp_path: Path, question_id: object) -> None:
    used, left = left_out(tmp_path, LINE, {**LINE, "question_id": question_id}, LINE)

    assert used == [1, 3]
    (fault,) = left
    assert (fault.question_id, fault.where) == (None, f"{tmp_path / 'd.jsonl'}:2")
    assert fault.reason.startswith("question_id ")


def test_optional_texts_may_be_null(tmp_path: Path) -> None:
    record = {**LINE, "question_type": None, "answer_type": None, "split": None}

    assert read(tmp_path, record) == [VqaExample(1, "images/a.png", "What?", ("dog",))]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "a.png", "question" "q?"}', "column 31: Expecting ':' delimiter; one JSON obj"),
        ('{"image": "a.png"', "column 18: "),
        ('{"question": "q?"}', "image is missing; found are 'question'"),
        ("{}", "image and question are missing; found are nothing"),
        ("[]", "found a list; one JSON object a line is needed, such as"),
        ("null", "found null; one JSON object a line is needed"),
        ('{"image": "a", "image": "b", "question": "q"}', "the key 'image' stands twice"),
        ('{"image": "a", "question": "q", "x": NaN}', "NaN stands where a value is needed"),
        ('{"image": "a", "question": "q", "answer": 1e999}', "the number 1e999 is too large"),
        ("[" * 200_000, "brackets nest too deeply; one JSON object"),
        ('{"x": ' + "9" * 5000 + "}", "an integer has thousands of digits; one JSON object"),
    ],
)
def test_a_line_of_bad_json_is_left_out(tmp_path: Path, line: str, reason: str) -> None:
    used, left = left_out(tmp_path, LINE, line, LINE)

    assert used == [1, 3]
    (fault,) = left
    assert fault.where == f"{tmp_path / 'd.jsonl'}:2"
    assert fault.reason.startswith(reason)
    assert "\n" not in fault.reason


def test_bytes_that_are_not_utf8_are_refused_and_a_bom_is_not(tmp_path: Path) -> None:
    text = json.dumps({**LINE, "question": "Où?"}, ensure_ascii=False) + "\n"
    file = tmp_path / "d.jsonl"
    file.write_bytes(text.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    assert JsonlSource(file).examples("train")[0].question == "Où?"

    file.write_bytes(json.dumps(LINE).encode() + b"\n" + text.encode("latin-1"))
    with pytest.raises(SourceError, match=r"d\.jsonl:2: byte \d+ of the line is not UTF-8"):
        JsonlSource(file).examples("train")


def test_a_file_cut_short_within_a_letter_costs_its_last_line(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_bytes(json.dumps(LINE).encode() + b"\n" + '{"image": "é'.encode()[:-1])
    source = JsonlSource(file)

    assert len(source.examples("train")) == 1
    reason = "the line is cut short within a letter"
    assert source.left_out("train") == [LeftOut(None, f"{file}:2", reason)]


def test_an_empty_file_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no \.jsonl file"):
        JsonlSource(tmp_path)
    with pytest.raises(SourceError, match=r"d\.jsonl: the file has no lines; one line a question"):
        read(tmp_path, "")


def test_a_file_of_which_no_line_can_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, {**LINE, "question": ""}, "", "{")
    file = tmp_path / "d.jsonl"
    assert str(caught.value) == (
        f"{file}: none of its 2 questions can be used; the first is {file}:1: question is blank; "
        "text is needed. Mend them, or check that this is the right data set."
    )


@pytest.mark.timeout(10)
def test_a_fifo_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "d.jsonl")
    for name, found in {"d.jsonl": "neither a file nor a folder", "no.jsonl": "no such"}.items():
        with pytest.raises(SourceError, match=found):
            JsonlSource(tmp_path / name)


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
