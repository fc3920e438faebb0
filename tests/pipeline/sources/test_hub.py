"""Hugging Face data sets: which files are which split, and what cannot be loaded."""

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.hub import HubSource
from tests.support.hub_data import (
    _offline,  # noqa: F401  (a fixture)
    png,
    row,
    save,
)


@pytest.fixture
def lmms_lab(tmp_path: Path) -> Path:
    """A folder as `hf download` leaves it: two shards of validation, one of testdev."""
    data = tmp_path / "VQAv2 [copy]" / "data"  # brackets mean something to a glob
    save(
        data / "validation-00000-of-00002.parquet",
        [row(10, 1, "red", ["dog"] * 10), row(11, 1, "red", ["yes", "no"])],
    )
    save(data / "validation-00001-of-00002.parquet", [row(20, 2, "blue", ["2"])])
    save(data / "testdev-00000-of-00001.parquet", [row(30, 3, "lime", None)])
    return data.parent


def test_the_columns_of_lmms_lab_are_the_default(lmms_lab: Path) -> None:
    examples = HubSource(str(lmms_lab)).examples("validation")

    assert examples == [
        VqaExample(10, 1, "Question 10?", ("dog",) * 10, "what is", "other"),
        VqaExample(11, 1, "Question 11?", ("yes", "no"), "what is", "other"),
        VqaExample(20, 2, "Question 20?", ("2",), "what is", "other"),
    ]


def test_null_answers_are_a_test_split(lmms_lab: Path) -> None:
    assert HubSource(str(lmms_lab)).examples("test-dev") == [VqaExample(30, 3, "Question 30?", ())]


def test_pictures_are_fetched_by_row_as_stored(lmms_lab: Path) -> None:
    source = HubSource(str(lmms_lab))
    source.examples("val")
    source.examples("testdev")

    assert source.picture(1) == png("red")
    assert load_rgb(source.picture(2)).getpixel((0, 0)) == (0, 0, 255)
    assert source.picture(3) == png("lime")
    assert source.where(2) == f"hub:{lmms_lab}, validation row 2"


def test_reading_questions_loads_no_picture(
    lmms_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a picture was touched")

    monkeypatch.setattr("frozen_vqa.pipeline.sources.hub_rows.PictureColumn.value", fail)
    monkeypatch.setattr(datasets.Image, "decode_example", fail)
    source = HubSource(str(lmms_lab))

    assert len(source.examples("val")) == 3
    with pytest.raises(AssertionError, match="a picture was touched"):
        source.picture(1)


def test_only_the_split_that_is_asked_for_is_prepared(lmms_lab: Path) -> None:
    (lmms_lab / "data" / "testdev-00000-of-00001.parquet").write_bytes(b"cut short")
    source = HubSource(str(lmms_lab))

    assert len(source.examples("val")) == 3
    with pytest.raises(SourceError, match="cannot be loaded"):
        source.examples("testdev")


@pytest.mark.parametrize("split", ["val", "validation", "valid", "dev"])
def test_splits_have_several_usual_names(lmms_lab: Path, split: str) -> None:
    assert len(HubSource(str(lmms_lab)).examples(split)) == 3


def test_an_unknown_split_lists_those_there(lmms_lab: Path) -> None:
    with pytest.raises(SourceError, match="no split 'train'; there are: testdev, validation"):
        HubSource(str(lmms_lab)).examples("train")


def test_files_may_be_named_after_splits(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [row(1, 1, "red", ["a"])])
    save(tmp_path / "my_split.parquet", [row(2, 2, "red", ["a"])])
    source = HubSource(str(tmp_path))

    assert source.examples("train")[0].question_id == 1
    assert source.examples("my_split")[0].question_id == 2


def test_a_file_is_the_split_of_its_name_or_any_one(tmp_path: Path) -> None:
    named = save(tmp_path / "validation-00000-of-00001.parquet", [row(1, 1, "red", ["a"])])
    other = save(tmp_path / "vqa.parquet", [row(1, 1, "red", ["a"])])

    assert len(HubSource(str(named)).examples("val")) == 1
    with pytest.raises(SourceError, match="no split 'train'; there are: validation"):
        HubSource(str(named)).examples("train")
    source = HubSource(str(other))
    assert source.examples("train") == source.examples("train")
    assert source.where(1) == f"hub:{other}, train row 0"
    with pytest.raises(SourceError, match="read as split 'train', so it cannot be 'val' too"):
        source.examples("val")


def test_another_layout_is_left_to_datasets(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name, color in {"a": "red", "b": "blue"}.items():
        (tmp_path / "train" / f"{name}.png").write_bytes(png(color))
    (tmp_path / "train" / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "question": "q?", "answer": "x"}\n'
        '{"file_name": "b.png", "question": "q?", "answer": "y"}\n'
    )
    source = HubSource(str(tmp_path), {"answers": "answer"})

    first, second = source.examples("train")

    assert (first.answers, second.answers) == (("x",), ("y",))
    assert load_rgb(source.picture(second.image_id)).getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(SourceError, match="no split 'val'; there are: train"):
        source.examples("val")


def test_one_split_under_two_names_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "validation.parquet", [row(1, 1, "red", ["a"])])
    source = HubSource(str(tmp_path))
    assert source.examples("val") == source.examples("val")

    with pytest.raises(SourceError) as caught:
        source.examples("validation")
    assert str(caught.value) == (
        f"hub:{tmp_path}: 'validation' and 'val' are one split here, 'validation'. "
        "Give each split once."
    )


def test_a_damaged_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(SourceError, match=r"cannot be loaded \(Arrow"):
        HubSource(str(tmp_path)).examples("train")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be loaded"):
        HubSource(str(tmp_path)).examples("train")


def test_offline_and_not_cached_is_said_so() -> None:
    with pytest.raises(SourceError, match=r"hub:some/name: offline mode is on \(HF_HUB_OFFLINE\)"):
        HubSource("some/name").examples("train")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            datasets.exceptions.DatasetNotFoundError(
                "Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated"
            ),
            "gated. Ask for access .*`hf auth login`",
        ),
        (
            datasets.exceptions.DatasetNotFoundError(
                "Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."
            ),
            "no such data set on the Hub",
        ),
        (ConnectionError("Couldn't reach 'a/b' on the Hub (ConnectError)"), "Check the network"),
        (
            RuntimeError("Dataset scripts are no longer supported, but found b.py"),
            "a loading script.*in parquet",
        ),
        (
            ValueError("Config name is missing.\nPlease pick one among ['x', 'y']"),
            "several configurations",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_errors_of_the_hub_are_one_sentence_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    with pytest.raises(SourceError, match=f"hub:a/b: .*{reason}") as caught:
        HubSource("a/b").examples("train")
    assert "\n" not in str(caught.value)


def test_a_loading_script_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "vqa"
    folder.mkdir()
    (folder / "vqa.py").write_text("raise SystemExit('it ran')")

    with pytest.raises(SourceError, match="loading script"):
        HubSource(str(folder)).examples("train")


def test_a_path_that_datasets_would_take_for_a_chain(tmp_path: Path) -> None:
    (tmp_path / "a::b").mkdir()
    with pytest.raises(SourceError, match=r"its path holds '::', which .* Rename the folder"):
        HubSource(str(tmp_path / "a::b"))


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_answers_may_stand_in_a_column_answer(tmp_path: Path, form: str) -> None:
    """As in `jsonl:`; a CSV file keeps its texts, and `answers` comes first."""
    for names, seen in {("answer",): "007", ("answer", "answers"): "008"}.items():
        (folder := tmp_path / str(len(names))).mkdir()
        columns = {"question": ["q?"], "image": ["a.png"], "image_id": [1]}
        columns |= {name: ["007" if name == "answer" else "008"] for name in names}
        table = pa.table(columns)
        if form == "csv":
            table.to_pandas().to_csv(folder / "train.csv", index=False)
        else:
            pq.write_table(table, folder / "train.parquet")
        source = HubSource(str(folder))

        assert source.examples("train")[0].answers == (seen,)
        assert source.form("train").columns["answers"] == names[-1]
