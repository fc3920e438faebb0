"""Faulty parts of official files, and the variants of these files."""

import json
from pathlib import Path

import pytest

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.official_layouts import LAYOUTS, opened


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"correct_choice_idx": 4}, "the right choice is 4; one of 4, counted from 0, is needed"),
        ({"correct_choice_idx": True}, "the right choice is true; one of 4"),
        ({"choices": "red"}, "choices is 'red'; a list is needed"),
        ({"choices": [1, 2]}, "a choice is 1; text is needed"),
        ({"image_id": "42"}, "image_id is '42'; a whole number is needed"),
        ({"difficult_direct_answer": "no"}, "difficult_direct_answer is 'no'; true or false is"),
        ({"question": None}, "question is null; text is needed"),
    ],
)
def test_a_faulty_field_costs_its_question_alone(
    fields: dict[str, object], reason: str, tmp_path: Path
) -> None:
    source = opened("aokvqa", tmp_path)
    file = tmp_path / "aokvqa_v1p0_val.json"
    first, second = json.loads(file.read_text())
    file.write_text(json.dumps([first, second | fields]))

    assert len(source.examples("val")) == 1
    (fault,) = source.left_out("val")
    assert fault.question_id == second["question_id"]
    assert fault.reason.startswith(reason)


SPOILT = [
    ("visual7w", ("images", -1, "qa_pairs"), ["x"], "its qa_pairs are no list of objects"),
    ("visual7w", ("images", -1, "qa_pairs"), {"a": 1}, "its qa_pairs are no list of objects"),
    ("clevr", ("questions", 1, "program"), ["scene"], "a step of the program is no object"),
    ("vqa-rad", (1, "answer_type"), 7, "answer_type is 7; text is needed"),
]


@pytest.mark.parametrize(("name", "place", "value", "reason"), SPOILT)
def test_a_faulty_part_costs_its_question_alone(
    name: str, place: tuple[str | int, ...], value: object, reason: str, tmp_path: Path
) -> None:
    source, layout = opened(name, tmp_path), LAYOUTS[name]
    before = len(source.examples(layout.split))
    file = tmp_path / layout.split_file
    content = inside = json.loads(file.read_text())
    for key in place[:-1]:
        inside = inside[key]
    assert inside[place[-1]]
    inside[place[-1]] = value
    file.write_text(json.dumps(content))

    assert len(source.examples(layout.split)) == before - 1
    (fault,) = source.left_out(layout.split)
    assert fault.reason == reason


def test_a_repeated_question_of_visual7w_names_the_entry_of_the_first(tmp_path: Path) -> None:
    source = opened("visual7w", tmp_path)
    file = tmp_path / LAYOUTS["visual7w"].split_file
    content = json.loads(file.read_text())
    last = len(content["images"]) - 1
    content["images"][last]["qa_pairs"] *= 2
    file.write_text(json.dumps(content))

    assert len(source.examples("val")) == 2
    (fault,) = source.left_out("val")
    assert fault.reason.startswith("question_id 510 was used before")
    assert f"in entry {last}" in fault.reason


def test_daquar_has_a_reduced_set_in_files_of_its_own(tmp_path: Path) -> None:
    opened("daquar", tmp_path)
    for split in ("train", "test"):
        (tmp_path / f"qa.894.raw.{split}.format_triple").rename(
            tmp_path / f"qa.37.raw.{split}.format_triple"
        )
    source = open_source(f"daquar:{tmp_path}")
    assert list(source.splits()) == ["train-37", "test-37"]
    assert len(source.examples("test-37")) == 2


def test_a_picture_elsewhere_is_found_by_its_name_alone(tmp_path: Path) -> None:
    source = opened("textvqa", tmp_path)
    (tmp_path / "train_images").rename(tmp_path / "elsewhere")
    again = open_source(f"textvqa:{tmp_path}", images=tmp_path / "elsewhere")
    one = tmp_path / "elsewhere" / "0050ab.jpg"
    for example in again.examples("val"):
        assert load_rgb(again.picture(example.image_id)).size == (8, 6)

    one.unlink()
    gone = open_source(f"textvqa:{tmp_path}", images=tmp_path / "elsewhere")
    where = [gone.where(example.image_id) for example in gone.examples("val")]
    assert where[0].endswith(f"elsewhere/train_images/{one.name}")
    assert len(source.examples("val")) == 2


def test_a_blank_answer_of_ten_is_kept_but_not_in_vqav2(tmp_path: Path) -> None:
    """Whose released files have none."""
    for name in ("okvqa", "vqav2"):
        source = opened(name, tmp_path / name)
        (file,) = (tmp_path / name).glob("*val2014_annotations.json")
        content = json.loads(file.read_text())
        content["annotations"][1]["answers"][3]["answer"] = ""
        file.write_text(json.dumps(content))
        if name == "okvqa":
            assert source.examples("val")[1].answers == ("blue",) * 3 + ("",) + ("blue",) * 6
            continue
        with pytest.raises(SourceError, match="entry 1: an answer is an empty text"):
            source.examples("val")
