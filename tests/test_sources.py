"""The SPEC of `--dataset`, and VQAv2 as its authors publish it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import SourceError
from pipeline.images import load_rgb
from pipeline.jsonl import JsonlSource
from pipeline.shapes import ShapesSource
from pipeline.sources import Vqav2Source, did_you_mean, id_of, open_source, split_like, text_of

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


def test_annotations_of_other_questions_are_refused_naming_five(root: Path) -> None:
    write(
        root,
        "train",
        [question(n, n) for n in range(10)],
        [annotation(n, n, ["a"]) for n in range(8, 12)],
    )

    with pytest.raises(SourceError, match=r"8 questions .* 2 annotations .*as 0, 1, 2, 3, 4\)"):
        Vqav2Source(root).examples("train")


def test_annotations_without_a_question_are_refused(root: Path) -> None:
    annotations = [annotation(n, n, ["a"]) for n in (1, 2)]
    write(root, "train", [question(1, 1)], annotations)

    with pytest.raises(SourceError, match=r"0 questions .* 1 annotations .*as 2\)"):
        Vqav2Source(root).examples("train")


@pytest.mark.parametrize(
    ("questions", "reason"),
    [
        ([question(1, 2), question(1, 3)], "entry 1 .*question_id 1 was used before"),
        ([question(True, 2)], "question_id is True"),
        ([{"question_id": 1, "question": "a?"}], "image_id is None"),
        ([question(1, "x")], "image_id is 'x'; a number"),
        ([question(1, 2, "a\0b")], "NUL"),
        ([question(2**63, 2)], "64 bits"),
        (["a?"], "entry 0 .* is 'a[?]'"),
        ([], "no list of questions"),
        (None, "no list of questions"),
    ],
)
def test_faulty_questions_are_refused(root: Path, questions: object, reason: str) -> None:
    write(root, "test", questions)

    with pytest.raises(SourceError, match=reason):
        Vqav2Source(root).examples("test")


def test_one_image_id_in_two_folders_is_refused(root: Path) -> None:
    write(root, "val", [question(1, 42)], [annotation(1, 42, ["a"])])
    source = Vqav2Source(root)
    source.examples("train")

    with pytest.raises(SourceError, match="42 is in train2014 and in val2014"):
        source.examples("val")


def test_the_forms_of_a_spec(tmp_path: Path) -> None:
    file = tmp_path / "a:b.jsonl"  # only the first colon divides
    file.write_text('{"image": "a.png", "question": "q?", "answer": "a"}\n')

    assert isinstance(open_source(f"vqav2:{tmp_path}"), Vqav2Source)
    assert isinstance(open_source(f"jsonl:{file}"), JsonlSource)
    assert isinstance(open_source("shapes"), ShapesSource)
    assert isinstance(open_source("shapes:5"), ShapesSource)
    assert len({e.image_id for e in open_source("shapes:5").examples("train")}) == 5
    assert type(open_source("hub:some/name")).__name__ == "HubSource"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # a shell leaves ~ alone after a colon
    (tmp_path / "data").mkdir()

    assert isinstance(open_source("vqav2:~/data"), Vqav2Source)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "none of vqav2:PATH, jsonl:PATH, hub:NAME_OR_PATH, shapes"),
        ("vqa2:/data", "Did you mean 'vqav2:/data'"),
        ("JSONL:x", "Did you mean 'jsonl:x'"),
        ("data/train.jsonl", "Did you mean 'jsonl:data/train.jsonl'"),
        ("coco:x", "none of"),
        ("jsonl", "needed is jsonl:PATH"),
        ("hub:", "needed is hub:NAME_OR_PATH"),
        ("shapes:", r"needed is shapes\[:N\]"),
        ("shapes:many", "'many' is no number of images"),
        ("shapes:0", "no number"),
        ("shapes:-4", "no number"),
        ("vqav2:/no/such/folder", "no such folder"),
        ("jsonl:/no/such/file", "no such file"),
        ("hub:/no/such/file", "no such file"),
        ("hub:../no", "no such file"),
        ("hub:sets/a.parquet", "no such file"),
    ],
)
def test_a_wrong_spec_says_what_is_needed(spec: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        open_source(spec)


def test_columns_are_for_hub_only() -> None:
    with pytest.raises(SourceError, match="--column is for hub"):
        open_source("shapes", columns={"question": "query"})


def test_datasets_is_imported_only_for_hub(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "question": "q?"}\n')
    code = (
        "import sys; from pipeline.sources import open_source\n"
        f"open_source('jsonl:{tmp_path}').examples('a'); open_source('hub:some/name')\n"
        "print('datasets' in sys.modules, 'torch' in sys.modules)"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("asked", "known", "found"),
    [
        ("val", ["train", "validation"], "validation"),
        ("validation", ["val"], "val"),
        ("test-dev", ["test", "testdev"], "testdev"),
        ("val", ["val", "validation"], "val"),
        ("val", ["dev", "validation"], None),  # which of the two?
        ("val", ["train", "test"], None),
        ("test", ["testdev"], None),
    ],
)
def test_splits_have_several_usual_names(asked: str, known: list[str], found: str | None) -> None:
    assert split_like(asked, known) == found


def test_hints_name_the_nearest_or_nothing() -> None:
    assert did_you_mean("questoin", ["image", "question"]) == " Did you mean 'question'?"
    assert did_you_mean("zzz", ["image", "question"]) == ""


def test_ids_and_texts_are_what_a_cache_can_hold() -> None:
    assert id_of(-(2**63), "id", "here") == -(2**63)
    assert id_of("a", "id", "here") == "a"
    assert text_of("smile 😀", "question", "here") == "smile 😀"
    for wrong in (True, 1.5, None, "", 2**63):
        with pytest.raises(SourceError, match="here: id is"):
            id_of(wrong, "id", "here")
    for wrong in ("a\ud83d", "\udc00", "\0"):
        with pytest.raises(SourceError, match="surrogate"):
            text_of(wrong, "question", "here")


def test_a_picture_of_vqav2_can_be_opened(root: Path) -> None:
    (root / "val2014").mkdir()
    Image.new("RGB", (4, 3)).save(root / "val2014" / "COCO_val2014_000000000003.jpg")
    source = open_source(f"vqav2:{root}")
    source.examples("val")

    assert load_rgb(source.picture(3)).size == (4, 3)
