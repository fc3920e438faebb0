"""VQAv2 as its authors publish it: what one question lacks costs no other."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import LeftOut, VqaExample
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.sources.vqav2 import Vqav2Source

NAMES = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}


def question(question_id: int, image_id: int, text: str = "What is it?") -> dict[str, Any]:
    return {"question_id": question_id, "image_id": image_id, "question": text}


def annotation(question_id: int, image_id: int, answers: list[str]) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": "what is",
        "answer_type": "other",
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": n}
            for n, answer in enumerate(answers, 1)
        ],
    }


def write(root: Path, split: str, questions: object, annotations: object = None) -> None:
    name = NAMES[split]
    file = root / f"v2_OpenEnded_mscoco_{name}_questions.json"
    file.write_text(json.dumps({"info": {}, "questions": questions}))
    if annotations is not None:
        file = root / f"v2_mscoco_{name}_annotations.json"
        file.write_text(json.dumps({"info": {}, "annotations": annotations}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(
        tmp_path,
        "train",
        [question(42001, 42), question(7000, 7, "Is it red?")],
        [annotation(7000, 7, ["no", "yes"]), annotation(42001, 42, ["dog"] * 10)],
    )
    write(tmp_path, "val", [question(1, 3)], [annotation(1, 3, ["a"])])
    write(tmp_path, "test", [question(5, 9), question(6, 10)])
    write(tmp_path, "test-dev", [question(5, 9)])
    return tmp_path


def read(root: Path, split: str) -> tuple[list[VqaExample], list[tuple[object, str, str]]]:
    """Return the questions that are used, and of what is left out id, place and reason."""
    source = Vqav2Source(root)
    examples = source.examples(split)
    assert all(fault.where.startswith(f"{root}/v2_") for fault in source.left_out(split))
    return examples, [
        (fault.question_id, fault.where.removeprefix(f"{root}/v2_"), fault.reason)
        for fault in source.left_out(split)
    ]


QUESTIONS = "OpenEnded_mscoco_train2014_questions.json: entry"
ANNOTATIONS = "mscoco_train2014_annotations.json: entry"


def test_vqav2_joins_questions_and_annotations_by_id(root: Path) -> None:
    first, second = Vqav2Source(root).examples("train")

    assert (first.question_id, first.image_id, first.question) == (42001, 42, "What is it?")
    assert first.answers == ("dog",) * 10
    assert (first.question_type, first.answer_type) == ("what is", "other")
    assert (second.question_id, second.answers) == (7000, ("no", "yes"))


def test_vqav2_pictures_are_in_the_folder_of_their_split(root: Path) -> None:
    source = Vqav2Source(root)
    for split in NAMES:
        source.examples(split)

    assert source.picture(42) == root / "train2014" / "COCO_train2014_000000000042.jpg"
    assert source.picture(3) == root / "val2014" / "COCO_val2014_000000000003.jpg"
    assert source.picture(9) == root / "test2015" / "COCO_test2015_000000000009.jpg"
    assert source.where(42) == str(source.picture(42))


@pytest.mark.parametrize("split", ["test", "test-dev"])
def test_vqav2_test_splits_have_no_answers(root: Path, split: str) -> None:
    for example in Vqav2Source(root).examples(split):
        assert (example.answers, example.question_type, example.answer_type) == ((), "", "")


def test_a_missing_question_file_is_named_with_the_splits_there(root: Path) -> None:
    next(root.glob("*test-dev2015_questions.json")).unlink()

    with pytest.raises(
        SourceError, match=r"v2_OpenEnded_mscoco_test-dev2015.*in the folder: train, val, test\."
    ):
        Vqav2Source(root).examples("test-dev")


def test_a_missing_annotation_file_is_named(root: Path) -> None:
    (root / "v2_mscoco_val2014_annotations.json").unlink()

    with pytest.raises(SourceError, match=r"v2_mscoco_val2014_annotations\.json is not there"):
        Vqav2Source(root).examples("val")


@pytest.mark.parametrize(
    ("asked", "meant"), [("validation", "val"), ("testdev", "test-dev"), ("trian", "train")]
)
def test_a_split_of_another_name_gets_a_hint(root: Path, asked: str, meant: str) -> None:
    with pytest.raises(SourceError, match=f"no split '{asked}'.*Did you mean '{meant}'"):
        Vqav2Source(root).examples(asked)


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
        ({"answers": "dog"}, "answers is 'dog'; a list is needed"),
        ({"answers": ["dog"]}, 'answers holds something other than objects with "answer"'),
        ({"answers": [{"text": "a"}]}, 'answers holds something other than objects with "answer"'),
        ({"answers": [{"answer": True}]}, "an answer is true; text or a number is needed"),
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


@pytest.mark.parametrize(
    ("answers", "texts"),
    [
        ([], ()),
        (None, ()),
        (["a"], ("a",)),
        (["a"] * 11, ("a",) * 11),
        ([2, 1.5, 3.0, "x"], ("2", "1.5", "3", "x")),
        (["a", None], ("a",)),
    ],
)
def test_any_number_of_answers_is_kept_and_numbers_are_texts(
    root: Path, answers: list[object] | None, texts: tuple[str, ...]
) -> None:
    entry = annotation(1, 1, ["a"])
    entry["answers"] = answers and [{"answer": answer} for answer in answers]
    write(root, "train", [question(1, 1)], [entry])

    examples, left = read(root, "train")

    assert ([e.answers for e in examples], left) == ([texts], [])


@pytest.mark.parametrize("where", ["questions", "annotations"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"info": {}, "%s": []}', r"the list of {} is empty; at least one is needed\. Use the"),
        (b'{"%s": null}', r"found keys '{}'; an object with a list under '{}' is needed\. Check"),
        (b'[{"%s": []}]', r"found list; an object with a list under '{}' is needed"),
        (b'{"%s": [{"question_id": 1', r"line 1, column \d+: .*; valid JSON is needed\. It may be"),
        (b'{"%s": ["\xff"]}', r"byte \d+ is not UTF-8; JSON in UTF-8 is needed\. Save it as UTF-8"),
        (b'{"%s": [], "a": 1, "a": 2}', "the key 'a' occurs twice in one object; valid JSON"),
    ],
)
def test_a_faulty_file_is_refused(root: Path, where: str, content: bytes, reason: str) -> None:
    file = next(root.glob(f"*train2014_{where}.json"))
    file.write_bytes(content % where.encode())

    with pytest.raises(SourceError, match=reason.replace("{}", where)) as caught:
        Vqav2Source(root).examples("train")
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_file_of_which_no_question_can_be_used_is_refused(root: Path) -> None:
    write(root, "train", [question(1, 1), question(2, 2)], [annotation(3, 3, ["a"])])

    with pytest.raises(SourceError) as caught:
        Vqav2Source(root).examples("train")
    file = root / "v2_OpenEnded_mscoco_train2014_questions.json"
    assert str(caught.value) == (
        f"{file}: none of its 3 questions can be used; the first is {file}: entry 0: no annotation "
        "in v2_mscoco_train2014_annotations.json; use question and annotation files of one "
        "release. Mend them, or check that this is the right data set."
    )


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


def test_a_picture_of_vqav2_can_be_opened(root: Path) -> None:
    (root / "val2014").mkdir()
    Image.new("RGB", (4, 3)).save(root / "val2014" / "COCO_val2014_000000000003.jpg")
    source = open_source(f"vqav2:{root}")
    source.examples("val")

    assert load_rgb(source.picture(3)).size == (4, 3)
