"""CSV files of a data set of Hugging Face: texts are read as written, or the file is refused."""

import csv
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.hub import FIELDS, HubSource
from tests.support.hub_data import (
    _offline,  # noqa: F401  (a fixture)
    png,
)

ROW = {"image": "a.png", "question": "q?", "answers": "dog", "question_id": 1, "image_id": 1}
ROW |= {"question_type": "what", "answer_type": "other"}
TEXTS = ("question", "answers", "question_type", "answer_type")


def write(file: Path, *rows: Sequence[object], header: Sequence[str] = tuple(ROW)) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


def read(folder: Path) -> list[VqaExample]:
    return HubSource(str(folder)).examples("train")


@pytest.mark.parametrize(
    "texts",
    [
        ["NA", "None", "null", "nan", "N/A", "#N/A", "<NA>", "-NaN", "NULL", "n/a"],
        ["007", "7", "-0", "1_000"],
        ["1.50", "1e5", "inf"],
        ["True", "False"],
        ["2020-01-02", "03:04"],
        ["a, b", 'say "a"', "two\nlines", " spaces ", "#", "'", "\\", "\u00e9", "[1, 2]"],
    ],
)
def test_each_text_is_read_as_written(tmp_path: Path, texts: list[str]) -> None:
    rows = [{**ROW, "question_id": n, **dict.fromkeys(TEXTS, t)} for n, t in enumerate(texts)]
    write(tmp_path / "train.csv", *(list(row.values()) for row in rows))

    examples = read(tmp_path)

    assert [one.question for one in examples] == texts
    assert [one.answers for one in examples] == [(text,) for text in texts]
    assert [one.question_type for one in examples] == texts
    assert [one.answer_type for one in examples] == texts
    assert [one.question_id for one in examples] == list(range(len(texts)))


@pytest.mark.parametrize("field", FIELDS)
def test_two_columns_of_one_name_are_refused(tmp_path: Path, field: str) -> None:
    """As in parquet; pandas would give the second another name in silence."""
    twice = [field] if field in ROW else [field, field]
    cells = [*ROW.values(), *(ROW.get(name, "x") for name in twice)]
    write(tmp_path / "train.csv", cells, header=[*ROW, *twice])

    with pytest.raises(SourceError, match=f"^CSV: `datasets` names a second column '{field}'"):
        read(tmp_path)


def test_other_columns_may_have_one_name(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [*ROW.values(), 1, 2], header=[*ROW, "other", "other"])

    assert [one.answers for one in read(tmp_path)] == [("dog",)]


LONG = [*ROW.values(), "cat"]
SHORT = [*ROW.values()]


@pytest.mark.filterwarnings("default:Length of header")  # as it is outside of pytest
@pytest.mark.parametrize("rows", [[LONG], [LONG, LONG], [LONG, SHORT], [SHORT, LONG]])
def test_rows_longer_than_the_header_are_refused(tmp_path: Path, rows: list[list[object]]) -> None:
    """pandas would take the first cells for names of rows, and shift all columns by one."""
    write(tmp_path / "train.csv", *rows)

    with pytest.raises(SourceError, match=r"more cells than the header|Expected 7 fields"):
        read(tmp_path)


def test_rows_that_pandas_numbered_are_read(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [0, *ROW.values()], header=["", *ROW])

    assert [one.answers for one in read(tmp_path)] == [("dog",)]


@pytest.mark.parametrize("header", [[*ROW, "other"], [*reversed(ROW)], [*ROW][:-1]])
def test_files_of_differing_columns_are_refused(tmp_path: Path, header: list[str]) -> None:
    write(tmp_path / "train-00000-of-00002.csv", list(ROW.values()))
    row = [ROW.get(name, "x") for name in header]
    write(tmp_path / "train-00001-of-00002.csv", row, header=header)

    with pytest.raises(SourceError, match="Schema at index 1 was different"):
        read(tmp_path)


@pytest.mark.parametrize("answer", ["NA", ""])
def test_what_is_lost_of_a_csv_on_the_hub_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """`datasets` prepares it once for all programs, so it is not read in our own way."""
    write(tmp_path / "train.csv", list((ROW | {"answers": answer}).values()))
    builder = datasets.load_dataset_builder(str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda name: builder)

    with pytest.raises(SourceError, match=r"'answers' as nothing. Fetch the files and give their"):
        HubSource("somebody/set").examples("train")


@pytest.fixture
def _swept() -> Iterator[None]:
    """`datasets` leaves metadata.csv open, which must not be found in another test."""
    yield
    gc.collect()


@pytest.mark.usefixtures("_swept")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("dog", ""),
        ("NA", "column 'answers' as nothing"),
        ("", "column 'answers' as nothing"),
        ("007", "column 'answers' holds int64, and "),
    ],
)
def test_metadata_in_csv_are_read_or_refused(tmp_path: Path, answer: str, refused: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_bytes(png("red"))
    (tmp_path / "train" / "metadata.csv").write_text(
        f"file_name,question,image_id,answers\na.png,q?,1,{answer}\n"
    )
    source = HubSource(str(tmp_path))
    if not refused:
        assert source.examples("train")[0].answers == (answer,)
        return
    with pytest.raises(SourceError, match=refused):
        source.examples("train")
