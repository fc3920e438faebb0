"""What one question or annotation of VQAv2 lacks costs no other."""

from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.sources.example import LeftOut
from frozen_vqa.pipeline.sources.official.vqav2 import Vqav2Source
from tests.support import vqav2_files
from tests.support.vqav2_files import (
    ANNOTATIONS,
    NAMES,
    QUESTIONS,
    annotation,
    question,
    read,
    write,
)

root = vqav2_files.root  # a fixture


def test_what_is_whole_leaves_nothing_out(root: Path) -> None:
    for split in NAMES:
        assert read(root, split)[1] == []


def test_a_question_without_an_annotation_is_left_out(root: Path) -> None:
    write(root, "train", [question(n, n) for n in range(3)], [annotation(1, 1, ["a"])])

    examples, left = read(root, "train")

    assert [e.question_id for e in examples] == [1]
    reason = (
        "no annotation in v2_mscoco_train2014_annotations.json; use question and annotation files "
        "of one release"
    )
    assert left == [(0, f"{QUESTIONS} 0", reason), (2, f"{QUESTIONS} 2", reason)]


def test_an_annotation_without_a_question_is_left_out(root: Path) -> None:
    write(root, "train", [question(1, 1)], [annotation(n, n, ["a"]) for n in (2, 1)])

    examples, left = read(root, "train")

    assert [e.question_id for e in examples] == [1]
    assert left == [(2, f"{ANNOTATIONS} 0", "annotation without a question")]


def test_an_annotation_whose_question_is_faulty_is_not_listed_beside_it(root: Path) -> None:
    questions = [question(1, 1, " "), question(2, 2)]
    write(root, "train", questions, [annotation(n, n, ["a"]) for n in (1, 2)])

    assert read(root, "train")[1] == [(1, f"{QUESTIONS} 0", "question is blank; text is needed")]


def test_of_equal_question_ids_the_first_is_kept(root: Path) -> None:
    questions = [question(1, 1), question(2, 2), question(1, 1), question(2, 3, "Other?")]
    write(root, "train", questions, [annotation(n, n, ["a"]) for n in (1, 2)])

    examples, left = read(root, "train")

    assert [(e.question_id, e.image_id, e.question) for e in examples] == [
        (1, 1, "What is it?"),
        (2, 2, "What is it?"),
    ]
    reason = "question_id {} was used before, in entry {}; the first is kept"
    assert left == [
        (1, f"{QUESTIONS} 2", reason.format(1, 0)),
        (2, f"{QUESTIONS} 3", reason.format(2, 1)),
    ]


def test_of_two_annotations_of_a_question_the_first_is_kept(root: Path) -> None:
    annotations = [annotation(1, 1, ["a"]), annotation(1, 1, ["b"])]
    write(root, "train", [question(1, 1)], annotations)

    examples, left = read(root, "train")

    assert [e.answers for e in examples] == [("a",)]
    reason = "question_id 1 was annotated before, in entry 0; the first is kept"
    assert left == [(1, f"{ANNOTATIONS} 1", reason)]


@pytest.mark.parametrize(
    ("entry", "question_id", "reason"),
    [
        ("a?", None, "found 'a?'; an object is needed"),
        (None, None, "found null; an object is needed"),
        ({}, None, "question_id and image_id and question are missing; the fields are nothing"),
        (
            {"question_id": 7, "question": "a?"},
            7,
            "image_id is missing; the fields are 'question_id', ",
        ),
        (
            {"image_id": 2, "question": "a?"},
            None,
            "question_id is missing; the fields are 'image_id', ",
        ),
        (question(True, 2), None, "question_id is true; text or a whole number of 64 bits is"),
        (question(2**63, 2), None, "question_id is 9223372036854775808; text or a whole number"),
        (question(7, None), 7, "image_id is null; a whole number is needed"),
        (question(7, "x"), 7, "image_id is 'x'; a whole number is needed"),
        (question(7, 2.0), 7, "image_id is 2.0; a whole number is needed"),
        (question(7, 2, ""), 7, "question is blank; text is needed"),
        (question(7, 2, "a\0b"), 7, r"question 'a\x00b' holds a NUL or half of a surrogate pair"),
        (question(7, 2, "\ud83d"), 7, r"question '\ud83d' holds a NUL or half of a surrogate"),
        (question(7, 2, 5), 7, "question is 5; text is needed"),
        (question(7, 2, None), 7, "question is null; text is needed"),
    ],
)
def test_a_faulty_question_is_left_out(
    root: Path, entry: object, question_id: object, reason: str
) -> None:
    write(root, "test", [question(1, 1), entry, question(2, 2)])

    examples, left = read(root, "test")

    assert [e.question_id for e in examples] == [1, 2]
    ((found_id, where, found),) = left
    assert (found_id, where) == (question_id, "OpenEnded_mscoco_test2015_questions.json: entry 1")
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"answers": [{"answer": "\0"}]}, r"an answer '\x00' holds a NUL"),
        ({"question_type": 3}, "question_type is 3; text is needed"),
        ({"answer_type": "\ud800"}, r"answer_type '\ud800' holds a NUL or half"),
    ],
)
def test_a_faulty_annotation_leaves_its_question_out_and_is_named(
    root: Path, fields: dict[str, Any], reason: str
) -> None:
    annotations = [annotation(1, 1, ["a"]), annotation(2, 2, ["a"]) | fields]
    write(root, "train", [question(2, 2), question(1, 1)], annotations)

    examples, left = read(root, "train")

    assert [e.question_id for e in examples] == [1]
    ((question_id, where, found),) = left
    assert (question_id, where) == (2, f"{ANNOTATIONS} 1")
    assert found.startswith(reason)


def test_an_annotation_of_no_question_id_is_listed(root: Path) -> None:
    annotations = ["x", {"answers": []}, annotation(1, 1, ["a"]), annotation(1.5, 1, ["a"])]
    write(root, "train", [question(1, 1)], annotations)

    examples, left = read(root, "train")

    assert [e.answers for e in examples] == [("a",)]
    assert left == [
        (None, f"{ANNOTATIONS} 0", "found 'x'; an object is needed"),
        (None, f"{ANNOTATIONS} 1", "question_id is missing; the fields are 'answers'"),
        (
            None,
            f"{ANNOTATIONS} 3",
            "question_id is 1.5; text or a whole number of 64 bits is needed",
        ),
    ]


def test_an_image_id_of_another_folder_is_left_out(root: Path) -> None:
    write(root, "val", [question(1, 42), question(2, 3)], [annotation(n, 3, ["a"]) for n in (1, 2)])
    source = Vqav2Source(root)
    source.examples("train")

    assert [e.question_id for e in source.examples("val")] == [2]
    file = root / "v2_OpenEnded_mscoco_val2014_questions.json"
    reason = (
        "image_id 42 is val2014/COCO_val2014_000000000042.jpg here, but was train2014/"
        "COCO_train2014_000000000042.jpg before; one id must mean one picture in all splits"
    )
    assert source.left_out("val") == [LeftOut(1, f"{file}: entry 0", reason)]
    assert source.left_out("train") == []
    assert source.picture(42) == root / "train2014" / "COCO_train2014_000000000042.jpg"
