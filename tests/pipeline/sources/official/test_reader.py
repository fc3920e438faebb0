"""Every data set in its authors' files: what it gives, and that a faulty record costs no other."""

import json
import pickle
from pathlib import Path

import pytest

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.data_check import check_data, require_pictures
from frozen_vqa.pipeline.extract.plan import read_questions
from frozen_vqa.pipeline.sources.example import LeftOut, VqaExample
from frozen_vqa.pipeline.sources.open_source import OFFICIAL, open_source
from tests.support.official_files import COLORS, TEXTS
from tests.support.official_layouts import LAYOUTS, opened

every = pytest.mark.parametrize("name", LAYOUTS)


def test_every_data_set_has_a_layout() -> None:
    assert set(LAYOUTS) == set(OFFICIAL)


@every
def test_questions_and_pictures_are_those_of_the_files(name: str, tmp_path: Path) -> None:
    source, layout = opened(name, tmp_path), LAYOUTS[name]

    assert source.metric == {"vqav2": "2021", "okvqa": "2021"}.get(name, name)
    assert {"train", layout.split} <= set(source.splits())
    read = read_questions(source, ["train", layout.split])
    for examples, left_out in read.values():
        assert len(examples) >= 2
        assert (all(one.answers for one in examples), list(left_out)) == (True, [])
        for i, example in enumerate(examples[:2]):
            for side, image_id in enumerate(example.images):
                color = load_rgb(source.picture(image_id)).resize((1, 1)).getpixel((0, 0))
                assert color[0 if COLORS[(i + side) % 2] == "red" else 2] > 200, image_id
    second = read[layout.split][0][1]
    assert second == VqaExample(**{"question": TEXTS[1], **layout.second})
    checks = check_data(source, read)
    require_pictures(source, checks, None)
    assert [check.missing for check in checks] == [0, 0]
    assert all(check.form and check.form.place for check in checks)


@every
def test_a_blank_question_costs_no_other(name: str, tmp_path: Path) -> None:
    source, layout = opened(name, tmp_path, (TEXTS[0], " ")), LAYOUTS[name]

    examples = source.examples(layout.split)

    assert layout.second["question_id"] not in [one.question_id for one in examples]
    assert len(examples) == {"clevr": 3}.get(name, 1)
    file = tmp_path / layout.split_file
    separator = ": " if layout.place.startswith("entry") else ":"
    where = f"{file}{separator}{layout.place}"
    blank = LeftOut(layout.second["question_id"], where, "question is blank; text is needed")
    if name == "daquar":  # where a question is known by its place, and a blank line is none
        reason = "found 2 lines up to that of the picture; a question, its answers and the picture "
        blank = LeftOut(None, f"{file}:6", f"{reason}are needed")
    assert source.left_out(layout.split) == [blank]


@every
def test_a_record_that_is_no_object_costs_no_other(name: str, tmp_path: Path) -> None:
    source, layout = opened(name, tmp_path), LAYOUTS[name]
    file, number = tmp_path / layout.split_file, len(source.examples(layout.split))
    if name == "daquar":
        file.write_text(f"{file.read_text()}image7\n")
    elif name == "nlvr2":
        file.write_text(f"{file.read_text()}[]\n")
    elif name == "pathvqa":
        file.write_bytes(pickle.dumps([*pickle.loads(file.read_bytes()), "x"]))
    else:
        content = json.loads(file.read_text())
        lists = [content[key] for key in ("questions", "data", "images") if key in content]
        inside = lists[0] if lists else content
        inside.append([]) if isinstance(inside, list) else inside.update({"x": []})
        file.write_text(json.dumps(content))

    again = open_source(f"{name}:{tmp_path}")
    split = "train" if name == "vqa-rad" else layout.split  # its type of phrase is not known
    assert len(again.examples(split)) == number
    (fault,) = again.left_out(split)
    assert (fault.question_id, fault.where.startswith(str(file))) == (None, True)
    assert fault.reason.startswith("found ")


@every
def test_a_missing_file_is_named_with_where_to_get_it(name: str, tmp_path: Path) -> None:
    source, layout = opened(name, tmp_path), LAYOUTS[name]
    file = tmp_path / layout.split_file
    file.unlink()

    with pytest.raises(SourceError) as caught:
        source.examples(layout.split)
    said = str(caught.value)
    assert file.name in said.replace("json or qas/val/val_qa.pkl", "val_qa.pkl")
    assert "which is not there" in said
    assert f"Get it from {source.get_it}" in said
    assert "\n" not in said


@every
def test_pictures_may_lie_elsewhere(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path / "data", layout.split, TEXTS)
    home = tmp_path / "data" / opened(name, tmp_path / "data").unpacked
    for folder in [one for one in home.iterdir() if one.is_dir()]:
        (tmp_path / "pictures").mkdir(exist_ok=True)
        folder.rename(tmp_path / "pictures" / folder.name)
    for questions in ("Annotations", "questions", "qas"):  # the folders that are not of pictures
        if (tmp_path / "pictures" / questions).exists():
            (tmp_path / "pictures" / questions).rename(home / questions)
    source = open_source(f"{name}:{tmp_path / 'data'}", images=tmp_path / "pictures")

    for example in source.examples(layout.split):
        assert load_rgb(source.picture(example.image_id)).size == (8, 6)


def test_train_all_of_gqa_is_read_from_ten_files(tmp_path: Path) -> None:
    source = opened("gqa", tmp_path)

    ids = [example.question_id for example in source.examples("train-all")]
    assert ids == [f"{chunk}0{number}" for chunk in range(10) for number in (40, 41)]
    (tmp_path / "train_all_questions" / "train_all_questions_7.json").unlink()
    with pytest.raises(SourceError, match=r"train_all_questions_7\.json: there is no such file"):
        source.examples("train-all")


def test_answers_of_clevrs_generator_are_spelled(tmp_path: Path) -> None:
    examples = opened("clevr", tmp_path).examples("val")

    assert [one.answers for one in examples] == [("red",), ("blue",), ("yes",), ("3",)]
    assert {one.question_type for one in examples} == {"query_color"}


def test_a_repeated_id_of_an_object_is_left_out(tmp_path: Path) -> None:
    source = opened("gqa", tmp_path)
    file = tmp_path / "val_balanced_questions.json"
    text = file.read_text()
    file.write_text(f"{text[:-1]}, {text[1:]}")

    assert len(source.examples("val")) == 2
    assert [one.where for one in source.left_out("val")] == [
        f"{file}: entry '050'",
        f"{file}: entry '051'",
    ]


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd", "C:\\x.jpg", "https://example.org/x.jpg"]
)
def test_a_picture_outside_of_the_folder_is_left_out(path: str, tmp_path: Path) -> None:
    """TallyQA names whole paths."""
    source = opened("tallyqa", tmp_path)
    file = tmp_path / "test.json"
    entries = json.loads(file.read_text())
    entries[0]["image"] = path
    file.write_text(json.dumps(entries))

    assert [one.question_id for one in source.examples("test")] == [51]
    (fault,) = source.left_out("test")
    assert (fault.question_id, fault.where) == (50, f"{file}: entry 0")
    assert "is not a path inside" in fault.reason or "is an address" in fault.reason


def test_a_side_file_of_macos_is_no_picture(tmp_path: Path) -> None:
    source = opened("vizwiz", tmp_path)
    file = tmp_path / "Annotations" / "val.json"
    entries = json.loads(file.read_text())
    entries.append({**entries[0], "image": f"._{entries[0]['image']}"})
    file.write_text(json.dumps(entries))

    assert len(source.examples("val")) == 2
    assert "side file of macOS" in source.left_out("val")[0].reason


def test_an_id_of_scienceqa_without_a_question_is_left_out(tmp_path: Path) -> None:
    source = opened("scienceqa", tmp_path)
    file = tmp_path / "pid_splits.json"
    file.write_text(json.dumps({"val": ["50", "999", 51]}))

    assert [one.question_id for one in source.examples("val")] == ["50", "51"]
    reason = "there is no such question in problems.json"
    assert source.left_out("val") == [LeftOut(None, f"{file}: '999'", reason)]


@pytest.mark.parametrize("name", ["scienceqa", "slake"])
def test_a_picture_elsewhere_is_not_another_of_that_name(name: str, tmp_path: Path) -> None:
    """All pictures of these sets have one name, in a folder each."""
    source, split = opened(name, tmp_path), LAYOUTS[name].split
    first, second = source.examples(split)
    folder = source.picture(first.image_id).parent
    elsewhere = folder.parent if name == "slake" else folder.parent.parent
    source.picture(second.image_id).unlink()

    again = open_source(f"{name}:{tmp_path}", images=elsewhere)
    again.examples(split)
    assert load_rgb(again.picture(first.image_id)).size == (8, 6)
    assert not Path(str(again.picture(second.image_id))).exists()
