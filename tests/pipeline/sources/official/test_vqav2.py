"""VQAv2 as its authors publish it: its files are found and joined, or refused as a whole."""

from pathlib import Path

import pytest
from PIL import Image

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.official.vqav2 import Vqav2Source
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support import vqav2_files
from tests.support.vqav2_files import NAMES, annotation, question, read, write

root = vqav2_files.root  # a fixture


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

    with pytest.raises(SourceError, match=r"v2_mscoco_val2014_annotations\.json, which is not"):
        Vqav2Source(root).examples("val")


@pytest.mark.parametrize(
    ("asked", "meant"), [("validation", "val"), ("testdev", "test-dev"), ("trian", "train")]
)
def test_a_split_of_another_name_gets_a_hint(root: Path, asked: str, meant: str) -> None:
    with pytest.raises(SourceError, match=f"no split '{asked}'.*Did you mean '{meant}'"):
        Vqav2Source(root).examples(asked)


@pytest.mark.parametrize(
    ("answers", "texts"),
    [
        ([], ()),
        (None, ()),
        (["a"], ("a",)),
        (["a"] * 11, ("a",) * 11),
    ],
)
def test_any_number_of_answers_is_kept(
    root: Path, answers: list[str] | None, texts: tuple[str, ...]
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


def test_a_picture_of_vqav2_can_be_opened(root: Path) -> None:
    (root / "val2014").mkdir()
    Image.new("RGB", (4, 3)).save(root / "val2014" / "COCO_val2014_000000000003.jpg")
    source = open_source(f"vqav2:{root}")
    source.examples("val")

    assert load_rgb(source.picture(3)).size == (4, 3)
