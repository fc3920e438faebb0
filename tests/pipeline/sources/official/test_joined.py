"""One file in VQAv2's form, wherever its pictures lie."""

import json
from pathlib import Path

import pytest

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.official_files import draw

QUESTIONS = [
    {"question_id": 1, "image_id": 42, "question": "What color is it?"},
    {"question_id": "b", "image_id": "x", "question": "And this?"},
]
ANNOTATIONS = [{"question_id": one["question_id"], "answers": ["red"]} for one in QUESTIONS]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    questions, annotations = tmp_path / "q.json", tmp_path / "a.json"
    questions.write_text(json.dumps({"questions": QUESTIONS}))
    annotations.write_text(json.dumps({"annotations": ANNOTATIONS}))
    return questions, annotations


@pytest.mark.parametrize(
    ("pattern", "picture"),
    [
        ("pictures/{image_id}.png", "pictures/42.png"),
        ("val2014/COCO_val2014_{image_id:012d}.jpg", "val2014/COCO_val2014_000000000042.jpg"),
        ("many/{image_id}/image.png", "many/42/image.png"),
        ("{image_id:03d}.png", "042.png"),
    ],
)
def test_the_pattern_of_images_names_each_picture(
    pattern: str, picture: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    questions, annotations = files
    draw(tmp_path / picture, 0)
    images = tmp_path / pattern
    source = open_source(f"vqav2:{questions}", images=images, annotations=annotations)

    examples = source.examples("any")

    assert (examples[0].question_id, examples[0].answers) == (1, ("red",))
    assert load_rgb(source.picture(42)).size == (8, 6)
    reasons = [fault.reason for fault in source.left_out("any")]
    assert reasons == (
        ["image_id is 'x'; --images needs a whole number"] if ":0" in pattern else []
    )


def test_without_annotations_there_are_no_answers(files: tuple[Path, Path]) -> None:
    source = open_source(f"vqav2:{files[0]}", images=files[0].parent / "{image_id}.png")
    assert [one.answers for one in source.examples("test")] == [(), ()]


@pytest.mark.parametrize(
    "pattern",
    [
        "pictures",
        "pictures/{id}.jpg",
        "pictures/{image_id}{image_id}.jpg",
        "{image_id.__class__}.jpg",
        "{image_id:99999999999d}.jpg",
        "pictures/{image_id:d.jpg",
    ],
)
def test_a_pattern_without_the_id_is_refused(pattern: str, files: tuple[Path, Path]) -> None:
    with pytest.raises(SourceError, match="of a picture with its id is needed, such as"):
        open_source(f"vqav2:{files[0]}", images=Path(pattern))


def test_a_picture_does_not_leave_the_folder(files: tuple[Path, Path], tmp_path: Path) -> None:
    entry = {"question_id": 3, "image_id": "../../etc/x", "question": "And this?"}
    files[0].write_text(json.dumps({"questions": [*QUESTIONS, entry]}))
    (tmp_path / "pictures").mkdir()
    source = open_source(f"vqav2:{files[0]}", images=tmp_path / "pictures" / "{image_id}.jpg")

    assert len(source.examples("train")) == 2
    assert "is not a path inside the data folder" in source.left_out("train")[0].reason


def test_annotations_are_for_one_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"--annotations is for one file, vqav2:FILE\. Leave it"):
        open_source(f"vqav2:{tmp_path}", annotations=tmp_path / "a.json")
