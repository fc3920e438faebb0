"""Your own folder: every line is used as it says, or refused with its number."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SourceError
from pipeline.examples import VqaExample
from pipeline.jsonl import JsonlSource

LINE = {"image": "images/a.png", "question": "What?", "answer": "dog"}


def write(file: Path, *records: dict[str, Any] | str) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(path: Path, *records: dict[str, Any] | str, split: str = "train") -> list[VqaExample]:
    return JsonlSource(write(path / "d.jsonl", *records)).examples(split)


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


def test_a_line_in_the_file_of_another_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "val.jsonl", {**LINE, "split": "train"})

    with pytest.raises(SourceError, match=r"val\.jsonl:1: split is 'train' in the file of 'val'"):
        JsonlSource(tmp_path).examples("val")


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


@pytest.mark.parametrize("first", [{"split": "train"}, {}])
def test_all_lines_or_none_name_a_split(tmp_path: Path, first: dict[str, str]) -> None:
    second = {} if first else {"split": "train"}

    with pytest.raises(SourceError, match=r"d\.jsonl:2: .*all lines of a file or none"):
        read(tmp_path, {**LINE, **first}, {**LINE, **second})


def test_one_id_is_one_picture_in_all_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {**LINE, "image_id": 1}, {**LINE, "image_id": 1})
    write(tmp_path / "val.jsonl", {**LINE, "image": "other.png", "image_id": 1})
    source = JsonlSource(tmp_path)
    source.examples("train")

    with pytest.raises(SourceError, match=r"val\.jsonl:1: image_id 1 is other\.png, but it was im"):
        source.examples("val")


def test_a_question_id_occurs_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"d\.jsonl:3: question_id 'x' was used .* in line 1"):
        read(tmp_path, {**LINE, "question_id": "x"}, LINE, {**LINE, "question_id": "x"})


@pytest.mark.parametrize(
    "image", ["../a.png", "a/../../b.png", "a/../b.png", "/etc/a.png", "", "."]
)
def test_a_picture_outside_the_folder_is_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(SourceError, match=r"d\.jsonl:2: image .* inside the data folder"):
        read(tmp_path, LINE, {**LINE, "image": image})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"question": 7}, "question is 7; text"),
        ({"question": None}, "question is None"),
        ({"question": "  "}, "question is blank"),
        ({"question": "a\0b"}, "NUL"),
        ({"image": 5}, "image is 5"),
        ({"image": "a\0.png"}, "image .* NUL"),
        ({"answer": None}, "answer is None"),
        ({"answer": 1.5}, r"answer is 1\.5"),
        ({"answer": True}, "answer is True"),
        ({"answer": ["dog"]}, "answer is .'dog'.; text"),
        ({"answers": "dog"}, "answers is 'dog'; a list"),
        ({"answers": ["dog", None]}, "an answer is None"),
        ({"answers": ["dog", False]}, "an answer is False"),
        ({"answers": [{"answer": "dog"}]}, "an answer is .'answer'"),
        ({"question_id": 1.0}, r"question_id is 1\.0"),
        ({"question_id": None}, "question_id is None"),
        ({"question_id": 2**64}, "64 bits"),
        ({"image_id": [1]}, r"image_id is \[1\]"),
        ({"question_type": 3}, "question_type is 3"),
        ({"answer_type": None}, "answer_type is None"),
        ({"split": 1}, "split is 1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SourceError, match=rf"d\.jsonl:2: .*{reason}"):
        read(tmp_path, LINE, {**LINE, **fields})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "a.png", "question" "q?"}', "2:31: Expecting ':' delimiter"),
        ('{"image": "a.png"', "2:18: "),
        ('{"question": "q?"}', "2: image missing; the line has: question"),
        ("{}", "2: image and question missing; the line has: nothing"),
        ("[]", r"2: found \[\]; each line must be one JSON object"),
        ('{"image": "a", "image": "b", "question": "q"}', "2: the key 'image' stands twice"),
        ('{"image": "a", "question": "q", "x": NaN}', "2: NaN is no JSON value"),
        ('{"image": "a", "question": "\\ud83d"}', r"2: question '\\ud83d' holds .* surrogate"),
        ("[" * 200_000, "2: nested too deeply"),
        ('{"x": ' + "9" * 5000 + "}", "2: nested too deeply or too large"),
    ],
)
def test_bad_json_is_refused_with_its_place(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(SourceError, match=rf"d\.jsonl:{reason}"):
        read(tmp_path, LINE, line)


def test_bytes_that_are_not_utf8_are_refused_and_a_bom_is_not(tmp_path: Path) -> None:
    text = json.dumps({**LINE, "question": "Où?"}, ensure_ascii=False) + "\n"
    file = tmp_path / "d.jsonl"
    file.write_bytes(text.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    assert JsonlSource(file).examples("train")[0].question == "Où?"

    file.write_bytes(json.dumps(LINE).encode() + b"\n" + text.encode("latin-1"))
    with pytest.raises(SourceError, match=r"d\.jsonl:2: byte \d+ of the line is not UTF-8"):
        JsonlSource(file).examples("train")


def test_an_empty_file_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no \.jsonl file"):
        JsonlSource(tmp_path)
    with pytest.raises(SourceError, match="no question of split 'train'; the file has no lines"):
        read(tmp_path, "")


@pytest.mark.timeout(10)
def test_a_fifo_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "d.jsonl")
    for name in ("d.jsonl", "no.jsonl"):
        with pytest.raises(SourceError, match="no such file"):
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
