"""Lines and files that cannot be used: left out with number and reason, or refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import LeftOut, VqaExample
from frozen_vqa.pipeline.sources.own.source import OwnSource
from tests.support.jsonl_files import LINE, left_out, read


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
        ({"answer": "\udc00"}, r"an answer '\udc00' holds a NUL or half of a surrogate pair"),
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
        ('{"question": "q?"}', "image is missing; the fields are 'question'"),
        ("{}", "image and question are missing; the fields are nothing"),
        ("[]", "found a list; one JSON object a line is needed, such as"),
        ("null", "found null; one JSON object a line is needed"),
        ('{"image": "a", "image": "b", "question": "q"}', "the key 'image' occurs twice"),
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
    assert OwnSource(file).examples("train")[0].question == "Où?"

    file.write_bytes(json.dumps(LINE).encode() + b"\n" + text.encode("latin-1"))
    with pytest.raises(SourceError, match=r"d\.jsonl:2: byte \d+ of the line is not UTF-8"):
        OwnSource(file).examples("train")


def test_a_file_cut_short_within_a_letter_costs_its_last_line(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_bytes(json.dumps(LINE).encode() + b"\n" + '{"image": "é'.encode()[:-1])
    source = OwnSource(file)

    assert len(source.examples("train")) == 1
    reason = "the line is cut short within a letter"
    assert source.left_out("train") == [LeftOut(None, f"{file}:2", reason)]


def test_an_empty_file_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no file of questions"):
        OwnSource(tmp_path)
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
            OwnSource(tmp_path / name)


def test_an_unknown_form_of_answers_stops_its_own_split_alone(tmp_path: Path) -> None:
    good, bad = {**LINE, "split": "train"}, {**LINE, "split": "val", "answer": 7}
    assert len(read(tmp_path, good, bad)) == 1
    with pytest.raises(SourceError, match=r"d\.jsonl:2: an answer is 7; .* Write the answers of"):
        read(tmp_path, good, bad, split="val")
